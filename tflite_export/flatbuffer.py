"""The steps of a TFLite file, the Keras layers that they come from, and the types at its ends."""

import copy
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

FLOAT32, UINT8 = schema.TensorType.FLOAT32, schema.TensorType.UINT8
QUANTIZE, DEQUANTIZE = schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE

# TensorFlow numbers the scopes that a layer opens.
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Step:
    """An operator of a file.

    Attributes:
        tensor: name of its first output.
        is_last: whether that is the output of the file, but for a change of type.
        computes_in_float: whether it gives float32, other than for a change of type.
    """

    tensor: str
    is_last: bool
    computes_in_float: bool

    def layers(self, known: Collection[str], last: Collection[str]) -> set[str]:
        """Which of the layers with `known` names it does a part of; `last` are those at the end.

        The converter joins the names of what it joins, "net/relu/Relu6;net/conv/convolution",
        and gives the output of the file a name of its own.
        """
        if self.is_last:
            return set(last)
        scopes = {part for path in self.tensor.split(";") for part in path.split("/")[:-1]}
        # "conv_1" is the first scope of "conv" even if there is a layer "conv_1", whose own is
        # "conv_1_1" then.
        names = (
            next((n for n in (_NUMBER.sub("", scope), scope) if n in known), None)
            for scope in scopes
        )
        return {name for name in names if name}


def steps(content: bytes) -> list[Step]:
    """The operators of a TFLite file, in their order."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    ends = set(graph.outputs)
    found = []
    for operator in reversed(graph.operators):
        index = operator.outputs[0]
        is_last = index in ends
        builtin = model.operatorCodes[operator.opcodeIndex].builtinCode
        changes_type = builtin in {QUANTIZE, DEQUANTIZE}
        if is_last and changes_type:
            ends.update(operator.inputs)
        tensor = graph.tensors[index]
        in_float = tensor.type == FLOAT32 and not changes_type
        found.append(Step(tensor.name.decode(), is_last, in_float))
    return found[::-1]


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
