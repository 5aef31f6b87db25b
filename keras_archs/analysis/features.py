"""The last feature map of each resolution: its layer, its channels, and a model that returns it."""

import fnmatch
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from ..arguments import as_int
from ..errors import InputError, did_you_mean, shown
from ..graph import (
    Call,
    FlatGraph,
    cloned,
    flattened,
    functional,
    operations,
    symbolic,
    tensors_at,
)
from ..registry import create_model

# For models of any input size: a side that every network halves without a remainder.
SIDE = 256


@dataclass(frozen=True)
class Feature:
    """The last map of one resolution.

    Attributes:
        level: how many times the input was halved: level 3 has stride 8, "P3" of detectors.
        name: path of the layer that gives the map, such as `conv4`, or `backbone/conv4` in a model
            inside the model.
        stride: input pixels for each pixel of the map, in each direction; `2**level`.
        channels: channels of the map.
    """

    level: int
    name: str
    stride: int
    channels: int


def feature_info(model: keras.Model | str, **arguments: Any) -> list[Feature]:
    """The last feature map of each resolution of a network, by level.

    A map counts if all later layers depend on it alone: the output of a stage, not a branch of a
    block. Before a strided depthwise convolution this is the narrow output of the previous block,
    not the widened map inside the next block. Maps of models inside the model count as well.

    Args:
        model: any functional Keras model on one image, or the name of a builder. For a name only
            the shapes are computed; the network gets no memory for its weights.
        **arguments: arguments of the builder, if a name is given.

    Raises:
        InputError: the model is not functional, the name is unknown, or an argument is wrong.
    """
    if isinstance(model, str):
        with symbolic():
            return feature_info(create_model(model, **arguments))
    model = functional(model)
    if None in model.inputs[0].shape[1:3]:
        with symbolic():
            return feature_info(cloned(model, keras.tree.map_structure(_sized, model.input)))
    graph = flattened(model)
    trunk = _Trunk(graph)
    halvings = _halvings(graph)
    last: dict[int, Call] = {}
    for call in trunk:
        level = round(halvings[id(call.outputs[0])])
        if _strided_depthwise(call) and level - 1 in last:
            last[level - 1] = trunk.before_expansion(last[level - 1])
        if not isinstance(call.operation, layers.ZeroPadding2D):
            last[level] = call
    return [
        Feature(level, call.path, 2**level, call.outputs[0].shape[-1])
        for level, call in sorted(last.items())
    ]


def _sized(tensor: Any) -> Any:
    shape = [SIDE if side is None else side for side in tensor.shape[1:]]
    return keras.Input(shape, dtype=tensor.dtype)


def feature_extractor(
    model: keras.Model | str, levels: int | Iterable[int] | None = None, **arguments: Any
) -> keras.Model:
    """A model that returns the last feature maps of a network, as for a detector.

    Args:
        model: any functional Keras model, whose layers and weights are shared, or the name of a
            builder, which builds without the top.
        levels: the levels to return, or one of them, see `Feature`; all by default.
        **arguments: arguments of the builder, if a name is given.

    Returns:
        A model from the input of the network to a list of maps, finest first. If `levels` is an
        integer, the model returns that map alone.

    Raises:
        InputError: the network has no map of one of the levels; see also `feature_info`.
    """
    if isinstance(model, str):
        model = create_model(model, **{"include_top": False, **arguments})
    model = functional(model)
    features = levels_of(model)
    wanted = wanted_levels(features if levels is None else levels, features, model)
    tensors = tensors_at(model, {features[level]: "outputs" for level in wanted})
    maps = [tensors[features[level]] for level in wanted]
    outputs = maps if as_int(levels) is None else maps[0]
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def levels_of(model: keras.Model) -> dict[int, str]:
    """The path of the last map of each level.

    Raises:
        InputError: the model has no levels, as a network whose branches begin at the image.
    """
    if features := {feature.level: feature.name for feature in feature_info(model)}:
        return features
    maps = [call.path for call in flattened(model).calls if len(call.outputs[0].shape) == 4]
    hint = f", such as {maps[-1]!r}, or call this on a model inside it" if maps else ""
    raise InputError(
        f"model {model.name!r} has no levels: its output does not depend on a single map at any"
        f" resolution. Give the name of a layer{hint}."
    )


def layers_at(model: keras.Model, place: int | str, argument: str) -> list[str]:
    """Paths of layers: the given path, the matches of a pattern, or the last map of a level.

    Raises:
        InputError: the model has no such layer or level; the error names `argument`.
    """
    if not isinstance(place, str):
        features, level = levels_of(model), as_int(place)
        if level is None or level not in features:
            raise InputError(
                f"{argument}={shown(place)}: {model.name} has no map of this level; allowed are"
                f" {sorted(features)} and the names of layers."
            )
        return [features[level]]
    paths = [path for path, _ in operations(model)]
    matches = [place] if place in paths else fnmatch.filter(paths, place)
    if not matches:
        name = place.rpartition("/")[2]
        same = [path for path in paths if path.rpartition("/")[2] == name][:3]
        hint = f" Did you mean {' or '.join(map(repr, same))}?" if same else ""
        raise InputError(
            f"{argument}={place!r} is not a layer of {model.name}."
            f"{hint or did_you_mean(place, paths)}"
        )
    return matches


def layer_at(model: keras.Model, place: int | str, argument: str) -> str:
    """See `layers_at`; an InputError if several layers match."""
    paths = layers_at(model, place, argument)
    if len(paths) > 1:
        raise InputError(
            f"{argument}={place!r} matches {len(paths)} layers of {model.name}; give one of them,"
            f" such as {paths[-1]!r}."
        )
    return paths[0]


def wanted_levels(levels: Any, allowed: Collection[int], model: keras.Model) -> list[int]:
    """Checks `levels=`, one level or several; returns them finest first.

    Raises:
        InputError: the levels are not integers, none is given, or the model lacks one.
    """
    several = as_int(levels) is None and isinstance(levels, Iterable)
    integers = {as_int(level) for level in (list(levels) if several else [levels])}
    wanted = sorted(level for level in integers if level is not None)
    if not integers or None in integers:
        raise InputError(f"levels must be an integer or several of them, got {shown(levels)}.")
    for level in wanted:
        if level not in allowed:
            raise InputError(
                f"levels={wanted}: {model.name} has no map of level {level}; allowed are"
                f" {sorted(allowed)}."
            )
    return wanted


def _halvings(graph: FlatGraph) -> dict[int, float]:
    """How many times each tensor of a model was halved, by its id.

    It is computed from strides, not sizes: a kernel without padding can also halve a small map.
    """
    halvings = {id(tensor): 0.0 for tensor in graph.inputs}
    for call in graph.calls:
        finest = min(call.inputs, key=lambda tensor: halvings[id(tensor)])
        for output, added in zip(call.outputs, _halvings_of_call(call, finest), strict=True):
            halvings[id(output)] = halvings[id(finest)] + added
    return halvings


def _halvings_of_call(call: Call, finest: Any) -> list[float]:
    """How often one call halves each of its outputs; `finest` is its largest input map."""
    layer = call.operation
    strides = getattr(layer, "strides", None)
    if strides is not None:
        once = math.log2(strides if isinstance(strides, int) else strides[0])
        return [-once if isinstance(layer, layers.Conv2DTranspose) else once] * len(call.outputs)
    maps = [len(tensor.shape) == 4 for tensor in (finest, *call.outputs)]
    if isinstance(layer, layers.ZeroPadding2D | layers.Cropping2D) or not all(maps):
        return [0.0] * len(call.outputs)
    return [round(math.log2(finest.shape[1] / output.shape[1])) for output in call.outputs]


def _strided_depthwise(call: Call) -> bool:
    layer = call.operation
    return isinstance(layer, layers.DepthwiseConv2D) and max(layer.strides) > 1


class _Trunk:
    """The calls of a model that are part of all paths from its input to its first output.

    Only calls that give a map count, from the first layer with weights to the global pooling.
    """

    def __init__(self, graph: FlatGraph) -> None:
        self._inputs = graph.inputs
        self._output = graph.outputs[0]
        needed = {id(self._output)}
        self._calls: list[Call] = []
        for call in reversed(graph.calls):
            if needed & set(map(id, call.outputs)):
                needed |= set(map(id, call.inputs))
                self._calls.insert(0, call)
        # Preprocessing does not count: maps begin at the first layer that learns.
        self._source: dict[int, Call] = {}
        for call in self._calls:
            if _learns(call) or any(id(x) in self._source for x in call.inputs):
                self._source |= dict.fromkeys(map(id, call.outputs), call)

    def __iter__(self) -> Iterator[Call]:
        last_use = {id(x): step for step, call in enumerate(self._calls) for x in call.inputs}
        last_use[id(self._output)] = len(self._calls)
        waiting = set(map(id, self._inputs))
        pooling = layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D
        for step, call in enumerate(self._calls):
            waiting |= set(map(id, call.outputs))
            waiting = {tensor for tensor in waiting if last_use.get(tensor, -1) > step}
            if waiting != {id(call.outputs[0])} or id(call.outputs[0]) not in self._source:
                continue
            ends = isinstance(call.operation, pooling) or len(call.outputs[0].shape) != 4
            if ends:
                return
            yield call

    def before_expansion(self, call: Call) -> Call:
        """The output of the previous block, if `call` is in the expansion of an inverted block.

        An inverted bottleneck begins at a map without an activation, and widens it by a 1x1
        convolution. MobileNetV4 has another depthwise convolution before the 1x1 convolution.
        """
        step: Call | None = call
        passing = layers.BatchNormalization | layers.Activation | layers.ReLU | layers.ZeroPadding2D
        while step and isinstance(step.operation, passing):
            step = self._before(step)
        if step is None or not isinstance(step.operation, layers.Conv2D):
            return call
        before = self._before(step)
        widens = step.outputs[0].shape[-1] > step.inputs[0].shape[-1]
        if before is None or not widens:
            return call
        if isinstance(before.operation, layers.Activation | layers.ReLU):
            return call
        inner = self._before(before)
        if inner and isinstance(inner.operation, layers.DepthwiseConv2D):
            return self._before(inner) or call
        return before

    def _before(self, call: Call) -> Call | None:
        """The call that gives the input map of `call`; None for the input of the model."""
        return self._source.get(id(call.inputs[0]))


def _learns(call: Call) -> bool:
    layer = call.operation
    return bool(getattr(layer, "weights", ())) and not isinstance(layer, layers.Normalization)
