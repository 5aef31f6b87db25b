"""The last map of every resolution: where it is, how wide it is, and a model that returns it."""

import fnmatch
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from .arguments import as_int
from .errors import InputError, did_you_mean, shown
from .graph import Call, FlatGraph, cloned, flattened, functional, operations, symbolic, tensors_at
from .registry import create_model

# A side that every network halves without a remainder, for models of any size.
SIDE = 256


@dataclass(frozen=True)
class Feature:
    """The last map of one resolution.

    Attributes:
        level: how often the input has been halved: level 3 has stride 8, "P3" of detectors.
        name: path of the layer whose output it is: `conv4`, or `backbone/conv4` in a model inside.
        stride: pixels of the input for one of the map, each way; `2**level`.
        channels: of the map.
    """

    level: int
    name: str
    stride: int
    channels: int


def feature_info(model: keras.Model | str, **arguments: Any) -> list[Feature]:
    """The last map of every resolution of a network, by level.

    A map counts if all that comes after it depends on it alone: the output of a stage, not a
    branch of a block. Before a strided depthwise convolution that is the narrow output of the
    block before, not the widened map inside the next one. Maps of models inside the model count
    like any other.

    Args:
        model: any functional Keras model on one image, or the name of a builder, whose network is
            not built: only its shapes are.
        **arguments: the builder's, with a name.

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
    """A model that returns the last maps of a network, for detectors or for a look at features.

    Args:
        model: any functional Keras model, whose layers and weights are shared, or the name of a
            builder, which builds without the top.
        levels: the resolutions to return, or one of them, see `Feature`; all by default.
        **arguments: the builder's, with a name.

    Returns:
        A model from the input of the network to a list of maps, finest first; for one level that
        is given as an integer, to the map itself.

    Raises:
        InputError: the network has no map of one of the levels; see also `feature_info`.
    """
    if isinstance(model, str):
        model = create_model(model, **{"include_top": False, **arguments})
    model = functional(model)
    features = levels_of(model)
    wanted = wanted_levels(features if levels is None else levels, features, model)
    found = tensors_at(model, {features[level]: "outputs" for level in wanted})
    maps = [found[features[level]] for level in wanted]
    outputs = maps if as_int(levels) is None else maps[0]
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def levels_of(model: keras.Model) -> dict[int, str]:
    """The path of the last map of every level.

    Raises:
        InputError: there is none, as in a network whose branches begin at the image.
    """
    if features := {feature.level: feature.name for feature in feature_info(model)}:
        return features
    maps = [call.path for call in flattened(model).calls if len(call.outputs[0].shape) == 4]
    hint = f", such as {maps[-1]!r}, or call this on a model inside it" if maps else ""
    raise InputError(
        f"model {model.name!r} has no levels, for no map is all that its output depends on: give"
        f" the name of a layer{hint}."
    )


def layers_at(model: keras.Model, place: int | str, argument: str) -> list[str]:
    """Paths of layers: that given, those that match a pattern, or the last map of a level.

    Raises:
        InputError: the model has no such layer or level; it names the argument that says so.
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
    """As `layers_at`, for one layer."""
    paths = layers_at(model, place, argument)
    if len(paths) > 1:
        raise InputError(
            f"{argument}={place!r} matches {len(paths)} layers of {model.name}; give one of them,"
            f" such as {paths[-1]!r}."
        )
    return paths[0]


def wanted_levels(levels: Any, allowed: Collection[int], model: keras.Model) -> list[int]:
    """The levels that are asked for, one or several, finest first.

    Raises:
        InputError: they are not integers, none is given, or the model lacks one.
    """
    given = list(levels) if as_int(levels) is None and isinstance(levels, Iterable) else [levels]
    integers = {as_int(level) for level in given}
    wanted = sorted(level for level in integers if level is not None)
    if not given or None in integers:
        raise InputError(f"levels must be an integer or several of them, got {shown(levels)}.")
    for level in wanted:
        if level not in allowed:
            raise InputError(
                f"levels={wanted}: {model.name} has no map of level {level}; allowed are"
                f" {sorted(allowed)}."
            )
    return wanted


def _halvings(graph: FlatGraph) -> dict[int, float]:
    """How often each tensor of a model has been halved, by its id.

    The strides tell, not the sizes: a kernel without padding shrinks a small map by half as well.
    """
    found = {id(tensor): 0.0 for tensor in graph.inputs}
    for call in graph.calls:
        finest = min(call.inputs, key=lambda tensor: found[id(tensor)])
        for output, own in zip(call.outputs, _own_halvings(call, finest), strict=True):
            found[id(output)] = found[id(finest)] + own
    return found


def _own_halvings(call: Call, finest: Any) -> list[float]:
    """What one call adds for each of its outputs; `finest` is the largest map that it sees."""
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
    """The calls of a model that all paths from its input to its first output go through.

    Only those that give a map, from the first layer with weights to the global pooling.
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
        # Preprocessing is no source: there is no map before the first layer that learns.
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
            waiting = {each for each in waiting if last_use.get(each, -1) > step}
            if waiting != {id(call.outputs[0])} or id(call.outputs[0]) not in self._source:
                continue
            ends = isinstance(call.operation, pooling) or len(call.outputs[0].shape) != 4
            if ends:
                return
            yield call

    def before_expansion(self, call: Call) -> Call:
        """The output of the block before, if `call` belongs to the expansion of an inverted one.

        An inverted bottleneck widens a map that no activation stands behind by a 1x1 convolution;
        MobileNetV4 puts one more depthwise convolution in front of that.
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
        """The call whose map this one takes; None for the input of the model."""
        return self._source.get(id(call.inputs[0]))


def _learns(call: Call) -> bool:
    layer = call.operation
    return bool(getattr(layer, "weights", ())) and not isinstance(layer, layers.Normalization)
