"""Narrows measured int8 ranges, which reduces the rounding error."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.transforms.quantization.dead_filters import width
from keras_archs.transforms.quantization.ranges import CUT_OFF, HARD_SIGMOID_OFFSET

from ..tflite_file.serialize import pack, unpack

_LOGISTIC, _HARD_SWISH, _ADD, _MUL = (
    schema.BuiltinOperator.LOGISTIC,
    schema.BuiltinOperator.HARD_SWISH,
    schema.BuiltinOperator.ADD,
    schema.BuiltinOperator.MUL,
)
_BINS = 2048
_MOST = 1 << 16
"""Values of a tensor that are counted for an image; of more values, this many are drawn."""
_THIN = 1e-6
"""A range with this relative width holds a single value."""
_LEAST = 1 / 4096
"""A range is never narrowed to less than this share of its width: all its values are then far out,
and TFLite ends the process for a sum with such a ratio of scales."""


class Spread:
    """The distribution of the values of a calibrated file's tensors over images.

    Args:
        content: a float32 file with the least and the greatest value of each tensor.
        images: float32 `[n, height, width, channels]`.
    """

    def __init__(self, content: bytes, images: np.ndarray) -> None:
        model = unpack(content)
        self._ranges = {
            index: _ends(tensor)
            for index, tensor in enumerate(model.subgraphs[0].tensors)
            if _is_measured(tensor) and np.ptp(_ends(tensor)) > _THIN * np.abs(_ends(tensor)).max()
        }
        # Delegates do not give access to tensors between operators.
        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        place = interpreter.get_input_details()[0]["index"]
        generator = np.random.default_rng(0)
        self._bins = {index: np.zeros(_BINS) for index in self._ranges}
        self._ends: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for image in images:
            interpreter.set_tensor(place, image[None])
            interpreter.invoke()
            for index, (low, high) in self._ranges.items():
                values = interpreter.get_tensor(index).ravel()
                self._ends[index].append((values.min(), values.max()))
                if values.size > _MOST:
                    values = values[generator.integers(values.size, size=_MOST)]
                bins = (values.astype("float64") - low) * (_BINS / (high - low))
                bins = np.clip(bins, 0, _BINS - 1).astype(int)
                self._bins[index] += np.bincount(bins, minlength=_BINS)

    def without(self, share: float, images: float) -> dict[int, tuple[float, float]]:
        """Ranges of the tensors, by index, that leave out rare values.

        Args:
            share: share of a tensor's values that may be beyond each end.
            images: share of the images that may have values beyond each end. The two shares give
                two ends; the one closer to the middle applies.
        """
        found = {}
        for index, measured in self._ranges.items():
            low, high = measured
            if left := int(images * len(self._ends[index])):
                least, most = np.sort(self._ends[index], axis=0).T
                low, high = max(low, least[left]), min(high, most[-1 - left])
            if share:
                edges: np.ndarray = np.linspace(*measured, _BINS + 1)
                below: np.ndarray = np.cumsum(self._bins[index]) / self._bins[index].sum()
                low = max(low, edges[np.searchsorted(below, share, "right")])
                high = min(high, edges[min(int(np.searchsorted(below, 1 - share)) + 1, _BINS)])
            if width(low, high) > _LEAST * width(*measured):
                found[index] = float(low), float(high)
        return found


def narrowed(content: bytes, ends: Mapping[int, tuple[float, float]]) -> bytes:
    """Narrows the measured ranges of a file; cuts off those before a sigmoid or swish.

    The gates of squeeze-and-excitation often get values in the hundreds. A range of all these
    values has a scale of several units, with which a gate is open, closed or half open. A sigmoid
    saturates: beyond `CUT_OFF` its result does not change, so clipping there changes nothing, and
    all levels can be between the limits. A hard sigmoid saturates as well. A swish multiplies its
    input by one of the two, and saturates below.

    Args:
        content: a float32 file with the minimum and maximum of each tensor, as TFLite's converter
            calibrates it.
        ends: ranges by the index of their tensor. Other tensors, the input and the output keep the
            measured range.
    """
    model = unpack(content)
    graph = model.subgraphs[0]
    users = _users(model)
    for index, tensor in enumerate(graph.tensors):
        if not _is_measured(tensor) or index in {*graph.inputs, *graph.outputs}:
            continue
        cut_off = [CUT_OFF.get(user, (-math.inf, math.inf)) for user in users[index]]
        low, high = ends.get(index, _ends(tensor))
        low = max(low, min((each for each, _ in cut_off), default=-math.inf))
        high = min(high, max((each for _, each in cut_off), default=math.inf))
        tensor.quantization.min, tensor.quantization.max = [min(low, 0.0)], [max(high, 0.0)]
    return pack(model)


def _users(model: Any) -> dict[int, list[str]]:
    """The users of each tensor, by its index: activations of `CUT_OFF` by name, others as ""."""
    users: dict[int, list[str]] = defaultdict(list)
    # The results of gates and the tensors that they come from; a hard gate has two operators.
    sums: dict[int, int] = {}
    gates: dict[int, tuple[int, str]] = {}
    for operator in model.subgraphs[0].operators:
        kind = model.operatorCodes[operator.opcodeIndex].builtinCode
        first, result = operator.inputs[0], operator.outputs[0]
        uses = dict.fromkeys(operator.inputs, "")
        if kind == _LOGISTIC:
            uses[first], gates[result] = "sigmoid", (first, "silu")
        elif kind == _HARD_SWISH:  # in a model whose layers cannot be replaced
            uses[first] = "hard_silu"
        elif kind == _ADD and _is_three_up_to_six(model, operator):
            uses[first], sums[result] = "hard_sigmoid", first
        elif kind == _MUL and first in sums:
            gates[result] = sums[first], "hard_silu"
        elif kind == _MUL:
            for taken, swish in (gates[each] for each in operator.inputs if each in gates):
                if taken in uses:
                    uses[taken] = swish
        for index, user in uses.items():
            users[index].append(user)
    return users


def _is_three_up_to_six(model: Any, addition: Any) -> bool:
    """Whether an operator adds HARD_SIGMOID_OFFSET to its first input and cuts the sum to 0..6."""
    kind = addition.builtinOptions.fusedActivationFunction
    tensor = model.subgraphs[0].tensors[addition.inputs[1]]
    data = model.buffers[tensor.buffer].data
    if kind != schema.ActivationFunctionType.RELU6 or data is None or len(data) != 4:
        return False
    return bool(np.isclose(data.view(np.float32)[0], HARD_SIGMOID_OFFSET, 1e-4))


def _ends(tensor: Any) -> tuple[float, float]:
    return float(tensor.quantization.min[0]), float(tensor.quantization.max[0])


def _is_measured(tensor: Any) -> bool:
    found = tensor.quantization
    return found is not None and found.min is not None and len(found.min) == 1
