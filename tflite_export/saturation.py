"""Ranges of int8 that end where the activation behind a tensor does not change any more."""

import math
from collections import defaultdict
from typing import Any

import keras
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from keras_archs.graph import calls
from tflite_export.fake_quantization.operations import FUNCTIONS, activation_of

END = math.log(511)
"""From here on a sigmoid is less than half a step, of 1/256, from its end."""
_LOGISTIC, _HARD_SWISH, _MUL = (
    schema.BuiltinOperator.LOGISTIC,
    schema.BuiltinOperator.HARD_SWISH,
    schema.BuiltinOperator.MUL,
)
_SATURATE = {"sigmoid", "silu", "hard_silu"}


def saturates(model: keras.Model) -> bool:
    """Whether a functional model has an activation that `with_narrow_ranges` knows."""
    operations = [call.operation for call in calls(model)]
    inside = (FUNCTIONS.get(getattr(each, "activation", None)) for each in operations)
    return not _SATURATE.isdisjoint({*map(activation_of, operations), *inside})


def with_narrow_ranges(content: bytes) -> bytes:
    """A file with measured ranges, those of what a sigmoid or a swish takes cut off at their ends.

    The gates of squeeze-and-excitation often get values in the hundreds. A range of all of them has
    steps of several units, and leaves gates that are open, closed or half open. Beyond the ends of
    the sigmoid nothing changes, and so all steps can lie between them: what int8 clips there
    comes out the same. A swish, which multiplies with the sigmoid, ends below, and so does the
    hard swish.

    Args:
        content: a float32 file with the least and the greatest value of each tensor, as TFLite's
            converter calibrates it.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    kinds = [model.operatorCodes[each.opcodeIndex].builtinCode for each in graph.operators]
    users: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    gates = {}  # what a sigmoid makes, to what it takes
    for kind, operator in zip(kinds, graph.operators, strict=True):
        for index in operator.inputs:
            users[index].append((kind, operator))
        if kind == _LOGISTIC:
            gates[operator.outputs[0]] = operator.inputs[0]

    def least_and_most(index: int, kind: int, operator: Any) -> tuple[float, float]:
        if kind == _LOGISTIC:
            return -END, END
        if kind == _HARD_SWISH:
            return -3.0, math.inf
        if kind == _MUL and index in (gates.get(each) for each in operator.inputs):
            return -END, math.inf
        return -math.inf, math.inf

    given = {*graph.outputs}
    for index, uses in users.items():
        found = graph.tensors[index].quantization
        if index in given or found is None or found.min is None or len(found.min) != 1:
            continue
        ends = [least_and_most(index, *use) for use in uses]
        least, most = min(low for low, _ in ends), max(high for _, high in ends)
        found.min = [min(max(found.min[0], least), 0.0)]
        found.max = [max(min(found.max[0], most), 0.0)]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
