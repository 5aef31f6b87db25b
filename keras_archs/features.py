"""The last map of every resolution: where it is, how wide it is, and a model that returns it."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_archs.errors import InputError
from keras_archs.graph import Call, calls, check_functional, symbolic
from keras_archs.registry import create_model

# A side that every network halves without a remainder, for models of any size.
SIDE = 256


@dataclass(frozen=True)
class Feature:
    """The last map of one resolution.

    Attributes:
        level: how often the input has been halved: level 3 has stride 8, "P3" of detectors.
        name: the layer whose output it is.
        stride: pixels of the input for one of the map, each way; `2**level`.
        channels: of the map.
    """

    level: int
    name: str
    stride: int
    channels: int


def feature_info(model: keras.Model | str, **arguments: Any) -> list[Feature]:
    """The last map of every resolution of a network, by level.

    A map counts if all that comes behind depends on it alone: the output of a stage, not a branch
    of a block. In front of a strided depthwise convolution that is the narrow output of the block
    before, not the widened map inside the next one.

    Args:
        model: any functional Keras model on one image, or the name of a builder, whose network is
            not built: only its shapes are.
        **arguments: the builder's, with a name.

    Raises:
        ValueError: the model is not functional, the name is unknown, or an argument is wrong.
    """
    if isinstance(model, str):
        with symbolic():
            return feature_info(create_model(model, **arguments))
    check_functional(model)
    shape = model.inputs[0].shape
    if None in shape[1:3]:
        with symbolic():
            sized = keras.Input((SIDE, SIDE, shape[-1]), dtype=model.inputs[0].dtype)
            return feature_info(keras.models.clone_model(model, input_tensors=sized))
    trunk = _Trunk(model)
    last: dict[int, Call] = {}
    for call in trunk:
        level = round(math.log2(shape[1] / call.outputs[0].shape[1]))
        if _strided_depthwise(call) and level - 1 in last:
            last[level - 1] = trunk.before_expansion(last[level - 1])
        if not isinstance(call.operation, layers.ZeroPadding2D):
            last[level] = call
    return [
        Feature(level, call.operation.name, 2**level, call.outputs[0].shape[-1])
        for level, call in sorted(last.items())
    ]


def feature_extractor(
    model: keras.Model | str, levels: Iterable[int] | None = None, **arguments: Any
) -> keras.Model:
    """A model that returns the last maps of a network, for detectors or for a look at features.

    Args:
        model: any functional Keras model, whose layers and weights are shared, or the name of a
            builder, which builds without the top.
        levels: the resolutions to return, see `Feature`; all by default.
        **arguments: the builder's, with a name.

    Returns:
        A model from the input of the network to a list of maps, finest first; to the map itself
        for one level.

    Raises:
        ValueError: the network has no map of one of the levels; see also `feature_info`.
    """
    if isinstance(model, str):
        model = create_model(model, **{"include_top": False, **arguments})
    features = {feature.level: feature for feature in feature_info(model)}
    wanted = sorted(features if levels is None else levels)
    for level in wanted:
        if level not in features:
            raise InputError(
                f"levels={wanted}: {model.name} has no map of level {level}; allowed are"
                f" {sorted(features)}."
            )
    maps = [model.get_layer(features[level].name).output for level in wanted]
    return keras.Model(model.input, maps, name=f"{model.name}_features")


def _strided_depthwise(call: Call) -> bool:
    layer = call.operation
    return isinstance(layer, layers.DepthwiseConv2D) and max(layer.strides) > 1


class _Trunk:
    """The calls of a model that all paths from its input to its first output go through.

    Only those that give a map, from the first layer with weights to the global pooling.
    """

    def __init__(self, model: keras.Model) -> None:
        self._inputs = model.inputs
        self._output = model.outputs[0]
        needed = {id(self._output)}
        self._calls: list[Call] = []
        for call in reversed(list(calls(model))):
            if needed & set(map(id, call.outputs)):
                needed |= set(map(id, call.inputs))
                self._calls.insert(0, call)
        self._source = {id(out): call for call in self._calls for out in call.outputs}

    def __iter__(self) -> Iterator[Call]:
        last_use = {id(x): step for step, call in enumerate(self._calls) for x in call.inputs}
        last_use[id(self._output)] = len(self._calls)
        waiting = set(map(id, self._inputs))
        pooling = layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D
        learned = False
        for step, call in enumerate(self._calls):
            learned = learned or bool(getattr(call.operation, "weights", ()))
            waiting |= set(map(id, call.outputs))
            waiting = {each for each in waiting if last_use.get(each, -1) > step}
            if waiting != {id(call.outputs[0])} or not learned:
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
        step = call
        passing = layers.BatchNormalization | layers.Activation | layers.ReLU | layers.ZeroPadding2D
        while isinstance(step.operation, passing):
            step = self._source[id(step.inputs[0])]
        widens = step.outputs[0].shape[-1] > step.inputs[0].shape[-1]
        if not isinstance(step.operation, layers.Conv2D) or not widens:
            return call
        before = self._source.get(id(step.inputs[0]))  # None: the model's input
        if before is None or isinstance(before.operation, layers.Activation | layers.ReLU):
            return call
        inner = self._source.get(id(before.inputs[0]))
        if inner and isinstance(inner.operation, layers.DepthwiseConv2D):
            before = self._source[id(inner.inputs[0])]
        return before
