"""TFLite files with other types at their ends, and with biases that are right."""

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

UINT8, QUANTIZE = schema.TensorType.UINT8, schema.BuiltinOperator.QUANTIZE

# Where the operators with a bias have their image, their kernel, and that bias.
_BIASED = {
    schema.BuiltinOperator.CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.FULLY_CONNECTED: (0, 1, 2),
    schema.BuiltinOperator.TRANSPOSE_CONV: (2, 1, 3),
}


def with_uint8_ends(content: bytes) -> bytes:
    """A file with int8 input and output as one with uint8, which is 128 more, at both."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for ends, entries in ((graph.inputs, signature.inputs), (graph.outputs, signature.outputs)):
        inside = ends[0]
        outside = _add_uint8_twin(graph.tensors, inside)
        ends[0] = entries[0].tensorIndex = outside
        step = schema.OperatorT()
        step.opcodeIndex = _code(model.operatorCodes, QUANTIZE)
        step.inputs, step.outputs = [inside], [outside]
        if ends is graph.inputs:
            step.inputs, step.outputs = [outside], [inside]
            graph.operators.insert(0, step)
        else:
            graph.operators.append(step)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def with_own_biases(content: bytes) -> bytes:
    """A file with int16 activations in which each bias has the scale that its operator reads it by.

    An operator takes its bias for a multiple of the product of its input's and its kernel's scale,
    whatever the file says. TensorFlow makes one constant of equal biases, and gives that the scale
    of one of its operators: in the others the bias is wrong. int8 files have copies.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    tensors, changed = model.subgraphs[0].tensors, False
    for operator in model.subgraphs[0].operators:
        places = _BIASED.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        if places is None or len(operator.inputs) <= places[-1] or operator.inputs[places[-1]] < 0:
            continue
        image, kernel, bias = (tensors[operator.inputs[place]] for place in places)
        if bias.type != schema.TensorType.INT64:  # it computes in float
            continue
        scale = np.float32(image.quantization.scale) * np.float32(kernel.quantization.scale)
        if np.allclose(bias.quantization.scale, scale, rtol=1e-5, atol=0):
            continue
        twin = copy.deepcopy(bias)
        values = np.frombuffer(model.buffers[bias.buffer].data, np.int64)
        values = np.rint(values * (np.float64(bias.quantization.scale) / scale)).astype(np.int64)
        twin.quantization.scale, twin.buffer = scale, len(model.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        model.buffers.append(buffer)
        operator.inputs[places[-1]] = len(tensors)
        tensors.append(twin)
        changed = True
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if changed else content


def _add_uint8_twin(tensors: list[Any], index: int) -> int:
    twin = copy.deepcopy(tensors[index])
    twin.type, twin.buffer = UINT8, 0  # the empty buffer
    twin.quantization.zeroPoint = [point + 128 for point in twin.quantization.zeroPoint]
    tensors[index].name += b"_int8"
    tensors.append(twin)
    return len(tensors) - 1


def _code(codes: list[Any], builtin: int) -> int:
    for index, code in enumerate(codes):
        if code.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # the first that changes one type of integers into another
    codes.append(code)
    return len(codes) - 1
