"""TFLite files with other types at their ends, and with biases and kernels that are right."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .serializing import pack, unpack

UINT8, QUANTIZE = schema.TensorType.UINT8, schema.BuiltinOperator.QUANTIZE

# Where the operators with a bias have their image, their kernel, and that bias.
_BIASED = {
    schema.BuiltinOperator.CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.FULLY_CONNECTED: (0, 1, 2),
    schema.BuiltinOperator.TRANSPOSE_CONV: (2, 1, 3),
}

REACH = 2.0**-32, 2.0**8
"""Steps of the output that one unit of an int8 product may be; XNNPACK takes no other."""


def with_uint8_ends(content: bytes) -> bytes:
    """A file with int8 input and output as one with uint8, which is 128 more, at both."""
    model = unpack(content)
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
    return pack(model)


def with_own_biases(content: bytes) -> bytes:
    """A file with int16 activations in which each bias has the scale that its operator reads it by.

    An operator takes its bias for a multiple of the product of its input's and its kernel's scale,
    whatever the file says. TensorFlow makes one constant of equal biases, and gives that the scale
    of one of its operators: in the others the bias is wrong. int8 files have copies.
    """
    model = unpack(content)
    changed = False
    for operator, tensors in _biased(model):
        image, kernel, bias = tensors
        if bias is None or bias.type != schema.TensorType.INT64:  # it computes in float
            continue
        scale = _scale(image) * _scale(kernel)
        if np.allclose(bias.quantization.scale, scale, rtol=1e-5, atol=0):
            continue
        _replace(model, operator, 2, _rescaled(model, bias, np.int64, scale), scale)
        changed = True
    return pack(model) if changed else content


def with_kernels_in_reach(content: bytes) -> bytes:
    """An int8 file without kernels that XNNPACK cannot take: its process ends, with no error.

    Such is a channel in which the least that an image can differ from zero sends the output out of
    its range, or in which the most does not move it by a step: of a filter that died in training,
    which the batch norm folded into it blows up. On the images that the file was calibrated with
    the channel gives its bias and nothing else, and so it does here for all: its kernel is zero.
    """
    model = unpack(content)
    changed = False
    for operator, (image, kernel, bias) in _biased(model):
        output = model.subgraphs[0].tensors[operator.outputs[0]]
        data = model.buffers[kernel.buffer].data
        if data is None:  # it is computed
            continue
        if {each.type for each in (image, kernel, output)} != {schema.TensorType.INT8}:
            continue
        scale, unit = _scale(kernel), _scale(output) / _scale(image)
        out = ~((scale / unit >= REACH[0]) & (scale / unit < REACH[1]))
        if not out.any():
            continue
        values = data.copy().view(np.int8).reshape(kernel.shape)
        filters = np.moveaxis(values, kernel.quantization.quantizedDimension, 0)
        filters[np.broadcast_to(out, len(filters))] = 0  # one scale may be that of all
        scale = np.where(out, unit, scale)
        _replace(model, operator, 1, values, scale)
        if bias is not None:
            scale = scale * _scale(image)
            _replace(model, operator, 2, _rescaled(model, bias, np.int32, scale), scale)
        changed = True
    return pack(model) if changed else content


def _biased(model: Any) -> Iterator[tuple[Any, tuple[Any, Any, Any]]]:
    """Operators of the first graph that may have a bias; their image, kernel and bias or None."""
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        places = _BIASED.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        if places is not None:
            found = [operator.inputs[each] for each in places if each < len(operator.inputs)]
            image, kernel, *bias = (tensors[index] if index >= 0 else None for index in found)
            yield operator, (image, kernel, bias[0] if bias else None)


def _scale(tensor: Any) -> np.ndarray:
    """Of a tensor, float32 `[1]` or one for each channel."""
    return np.asarray(tensor.quantization.scale, np.float32)


def _rescaled(model: Any, bias: Any, kind: type, scale: np.ndarray) -> np.ndarray:
    """The values of a bias in steps of another scale."""
    values: np.ndarray = np.frombuffer(model.buffers[bias.buffer].data, kind)
    limits = np.iinfo(kind)
    steps = np.rint(values * (np.float64(bias.quantization.scale) / scale))
    return np.clip(steps, limits.min, limits.max).astype(kind)


def _replace(model: Any, operator: Any, part: int, values: np.ndarray, scale: np.ndarray) -> None:
    """Gives an operator a constant of its own: the one it has may be that of others too."""
    place = _BIASED[model.operatorCodes[operator.opcodeIndex].builtinCode][part]
    tensors = model.subgraphs[0].tensors
    twin, buffer = copy.deepcopy(tensors[operator.inputs[place]]), schema.BufferT()
    twin.quantization.scale, twin.buffer = scale, len(model.buffers)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    operator.inputs[place] = len(tensors)
    tensors.append(twin)


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
