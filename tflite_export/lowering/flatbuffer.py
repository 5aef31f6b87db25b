"""Edits TFLite files: the types of input and output, and kernels that XNNPACK refuses."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_archs.transforms.quantization.dead_filters import XNNPACK_RATIOS

from ..tflite_file.serialize import pack, unpack

UINT8, QUANTIZE = schema.TensorType.UINT8, schema.BuiltinOperator.QUANTIZE

# Operators with a bias, and the indices of their image, kernel and bias among their inputs.
_BIASED = {
    schema.BuiltinOperator.CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.FULLY_CONNECTED: (0, 1, 2),
    schema.BuiltinOperator.TRANSPOSE_CONV: (2, 1, 3),
}


def with_uint8_ends(content: bytes) -> bytes:
    """Changes input and output of a file from int8 to uint8, whose values are 128 higher."""
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


def zero_refused_kernels(content: bytes) -> bytes:
    """Sets kernels that XNNPACK refuses to zero in an int8 file; it would end the process.

    XNNPACK refuses a channel if one level of the input moves the output out of its range, or if the
    whole range of the input moves the output by less than a level. Such a filter died in training,
    and its batch norm scales it up when it is folded. For the calibration images the channel gives
    only its bias. With a zero kernel it gives its bias for all images.
    """
    model = unpack(content)
    changed = False
    for operator, (image, kernel, bias) in _biased(model):
        output = model.subgraphs[0].tensors[operator.outputs[0]]
        data = model.buffers[kernel.buffer].data
        if data is None:  # the kernel is computed at run time
            continue
        if {tensor.type for tensor in (image, kernel, output)} != {schema.TensorType.INT8}:
            continue
        scale, unit = _scale(kernel), _scale(output) / _scale(image)
        out = ~((scale / unit >= XNNPACK_RATIOS[0]) & (scale / unit < XNNPACK_RATIOS[1]))
        if not out.any():
            continue
        values = data.copy().view(np.int8).reshape(kernel.shape)
        filters = np.moveaxis(values, kernel.quantization.quantizedDimension, 0)
        filters[np.broadcast_to(out, len(filters))] = 0  # one scale may be for all filters
        scale = np.where(out, unit, scale)
        _replace(model, operator, 1, values, scale)
        if bias is not None:
            scale = scale * _scale(image)
            _replace(model, operator, 2, _rescaled(model, bias, scale), scale)
        changed = True
    return pack(model) if changed else content


def _biased(model: Any) -> Iterator[tuple[Any, tuple[Any, Any, Any]]]:
    """Operators of the first graph that may have a bias; their image, kernel, and bias or None."""
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        places = _BIASED.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        if places is not None:
            inputs = [operator.inputs[place] for place in places if place < len(operator.inputs)]
            image, kernel, *bias = (tensors[index] if index >= 0 else None for index in inputs)
            yield operator, (image, kernel, bias[0] if bias else None)


def _scale(tensor: Any) -> np.ndarray:
    """The scale of a tensor, float32 `[1]` or `[channels]`."""
    return np.asarray(tensor.quantization.scale, np.float32)


def _rescaled(model: Any, bias: Any, scale: np.ndarray) -> np.ndarray:
    """The values of a bias in levels of another scale."""
    values: np.ndarray = np.frombuffer(model.buffers[bias.buffer].data, np.int32)
    limits = np.iinfo(np.int32)
    levels = np.rint(values * (np.float64(bias.quantization.scale) / scale))
    return np.clip(levels, limits.min, limits.max).astype(np.int32)


def _replace(model: Any, operator: Any, part: int, values: np.ndarray, scale: np.ndarray) -> None:
    """Gives an operator a new constant: other operators may share the old one."""
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
    code.version = 2  # the first version that converts between integer types
    codes.append(code)
    return len(codes) - 1
