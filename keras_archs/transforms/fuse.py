"""Fuses linear layers with the convolution before them, for deployment."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from ..errors import InputError
from ..graph import Call, calls, cloned, functional, is_functional
from ..layers.drop_in.activation import Activation
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.drop_in.dense import Dense
from ..layers.drop_in.depthwise import DepthwiseConv2D
from ..layers.layer_scale import LayerScale
from ..layers.stochastic_depth import StochasticDepth

# Exactly these classes: a subclass may compute something else.
IDENTITIES = {
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    StochasticDepth,
}
DEPTHWISE = {layers.DepthwiseConv2D, DepthwiseConv2D}
LINEAR = {layers.Conv2D, layers.SeparableConv2D, layers.Dense, Dense, *DEPTHWISE}
ACTIVATIONS = {layers.Activation, Activation}
NORMS = {layers.BatchNormalization, BatchNormalization}


def fuse(model: keras.Model, policy: str | None = None) -> keras.Model:
    """A copy of a model for inference, with fewer layers and the same outputs.

    - A batch norm or `LayerScale` after a convolution or dense layer is folded into its weights.
    - The sum of parallel convolutions of one map, and of the map itself, becomes one convolution,
      as in RepVGG.
    - Dropout and other layers that only act in training are removed.
    - Other batch norms, including those of keras.applications, use a fused kernel.

    Args:
        model: any functional Keras model, including nested models; it is not changed.
        policy: precision policy of the layers that give maps, such as `"mixed_bfloat16"`; by
            default the policy of `model`. Layers after the pooling keep their policy.

    Returns:
        A functional model, not compiled. The remaining layers keep their names. Train `model`
        instead: the fused model has no batch statistics.

    Raises:
        InputError: the model is not functional, or there is no such policy.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2; Ding et al. 2021, arXiv:2101.03697,
    section 3.3.
    """
    graph = functional(model)
    if policy not in {None, "float32", "mixed_float16", "mixed_bfloat16"}:
        raise InputError(
            f"policy must be None, 'float32', 'mixed_float16' or 'mixed_bfloat16', got {policy!r}."
        )
    return _fused(graph, policy, {})


def _fused(model: keras.Model, policy: str | None, inside: dict[int, keras.Model]) -> keras.Model:
    """See `fuse`; `inside` holds the fused inner models, so that a shared model stays shared."""
    plan = _Plan(model)

    def clone(operation: Any) -> Any:
        if not isinstance(operation, layers.Layer) or operation.name in plan.passed:
            return operation
        if is_functional(operation):
            if id(operation) not in inside:
                graph, trains = functional(operation), operation.name in plan.trains
                inside[id(operation)] = _copy(graph) if trains else _fused(graph, policy, inside)
            return inside[id(operation)]
        if isinstance(operation, keras.Model):
            return operation
        config = operation.get_config()
        if policy and operation.name in plan.maps:
            config["dtype"] = policy
        if operation.name in plan.linear:
            return type(operation).from_config({**config, **plan.linear[operation.name].config})
        if type(operation) is layers.BatchNormalization:
            return BatchNormalization.from_config(config)
        return type(operation).from_config(config)

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        name = operation.name
        if name in plan.joined or name in plan.passed:
            tensors = [
                x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
            ]
            return tensors[plan.joined.get(name, 0)]
        return operation(*args, **kwargs)

    fused = cloned(model, clone=clone, call=call)
    for layer in fused.layers:
        if layer.name in plan.linear:
            layer.set_weights(plan.linear[layer.name].weights)
        elif layer.weights and not isinstance(layer, keras.Model):
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return fused


def _copy(model: keras.Model) -> keras.Model:
    copy = cloned(model)
    copy.set_weights(model.get_weights())
    return copy


@dataclass
class _Linear:
    """A convolution or dense layer, and the weights that it has after fusion.

    Attributes:
        source: id of the map that it filters.
        kernels: kernels of the layer; the last axes of the last kernel are the outputs.
        bias: bias of each output.
        changed: whether anything was fused with the layer.
    """

    layer: Any
    source: int
    kernels: list[np.ndarray]
    bias: np.ndarray
    changed: bool = False

    @classmethod
    def of(cls, call: Call) -> "_Linear":
        layer = call.operation
        weights = [np.asarray(weight, "float64") for weight in layer.get_weights()]
        outputs = call.outputs[0].shape[-1]
        bias = weights.pop() if layer.use_bias else np.zeros(outputs)
        return cls(layer, id(call.inputs[0]), weights, bias)

    def scale(self, factor: np.ndarray, shift: np.ndarray) -> None:
        kernel = self.kernels[-1]
        # A depthwise kernel has two axes of outputs: channels, and filters of each channel.
        depthwise = type(self.layer) in DEPTHWISE
        self.kernels[-1] = kernel * (factor.reshape(kernel.shape[-2:]) if depthwise else factor)
        self.bias = self.bias * factor + shift
        self.changed = True

    @property
    def centered(self) -> bool:
        """Whether it is a convolution whose kernel is centred on each pixel of its input."""
        layer = self.layer
        return (
            type(layer) is layers.Conv2D
            and layer.strides == (1, 1)
            and layer.dilation_rate == (1, 1)
            and layer.groups == 1
            and (layer.padding == "same" or layer.kernel_size == (1, 1))
            and all(side % 2 for side in layer.kernel_size)
        )

    def add(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Adds the kernel of a parallel convolution; pads the smaller kernel with zeros."""
        shape = np.maximum(self.kernels[0].shape, kernel.shape)
        first, second = (
            np.pad(array, [(int(missing) // 2,) * 2 for missing in shape - array.shape])
            for array in (self.kernels[0], kernel)
        )
        self.kernels = [first + second]
        self.bias = self.bias + bias
        self.changed = True

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"use_bias": True}
        if self.centered:  # larger kernels may have been added
            config |= {"kernel_size": self.kernels[0].shape[:2], "padding": "same"}
        return config

    @property
    def weights(self) -> list[np.ndarray]:
        return [*self.kernels, self.bias]


class _Plan:
    """Which layers change, and which are removed.

    Attributes:
        linear: the convolutions and dense layers that change, by name.
        passed: names of removed layers; their input is used as their output.
        joined: names of removed additions, and which of their inputs holds the sum.
        maps: names of layers that give maps.
        trains: names of layers, or inner models, called with `training=True`; they are not fused.
    """

    def __init__(self, model: keras.Model) -> None:
        self.linear: dict[str, _Linear] = {}
        self.passed: set[str] = set()
        self.joined: dict[str, int] = {}
        every = list(calls(model))
        self.maps = {call.operation.name for call in every if len(call.outputs[0].shape) == 4}
        self.trains = {call.operation.name for call in every if call.keywords.get("training")}
        model_outputs = [id(output) for output in model.outputs]
        self._uses = Counter([*(id(x) for call in every for x in call.inputs), *model_outputs])
        self._calls_of = Counter(id(call.operation) for call in every)
        # The convolution that gives a map, and the map that an identity layer passed on, by id.
        self._made_by: dict[int, _Linear] = {}
        self._same_as: dict[int, int] = {}
        for call in every:
            self._take(call)
        self.linear = {
            linear.layer.name: linear
            for linear in self._made_by.values()
            if linear.changed and linear.layer.name not in self.passed
        }

    def _take(self, call: Call) -> None:
        layer, output = call.operation, id(call.outputs[0])
        if self._calls_of[id(layer)] > 1 or layer.name in self.trains:
            return
        if getattr(layer, "quantization_mode", None):
            return
        if type(layer) in LINEAR:
            channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
            if channels_last and layer.activation is keras.activations.linear:
                self._made_by[output] = _Linear.of(call)
        elif {x.dtype for x in call.inputs} != {call.outputs[0].dtype}:
            return  # the layer also casts
        elif type(layer) in IDENTITIES or _is_linear_activation(layer):
            source = id(call.inputs[0])
            self.passed.add(layer.name)
            self._same_as[output] = self._origin(source)
            if source in self._made_by and self._uses[source] == 1:
                self._made_by[output] = self._made_by[source]
        elif (affine := _affine(call)) is not None:
            linear = self._made_by.get(id(call.inputs[0]))
            if linear is None or self._uses[id(call.inputs[0])] > 1:
                return
            linear.scale(*affine)
            self._made_by[output] = linear
            self.passed.add(layer.name)
        elif type(layer) is layers.Add and len({x.shape for x in call.inputs}) == 1:
            self._join(call, output)

    def _origin(self, tensor: int) -> int:
        return self._same_as.get(tensor, tensor)

    def _join(self, call: Call, output: int) -> None:
        tensors = [id(x) for x in call.inputs]
        branches = [self._made_by.get(tensor) for tensor in tensors]
        carrier = next((branch for branch in branches if branch and branch.centered), None)
        if carrier is None:
            return
        source = self._origin(carrier.source)
        for tensor, branch in zip(tensors, branches, strict=True):
            parallel = (
                branch is not None
                and branch.centered
                and self._origin(branch.source) == source
                and self._uses[tensor] == 1
            )
            if not parallel and self._origin(tensor) != source:
                return
        for branch, tensor in zip(branches, tensors, strict=True):
            if branch is carrier:
                continue
            if branch is not None and self._origin(tensor) != source:
                carrier.add(branch.kernels[0], branch.bias)
                self.passed.add(branch.layer.name)
            else:
                carrier.add(np.eye(call.outputs[0].shape[-1])[None, None], np.zeros(1))
        self.joined[call.operation.name] = branches.index(carrier)
        self._made_by[output] = carrier


def _is_linear_activation(layer: Any) -> bool:
    return type(layer) in ACTIVATIONS and layer.activation is keras.activations.linear


def _affine(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and shift of each channel, if a layer does nothing else in inference."""
    layer = call.operation
    if type(layer) is LayerScale:
        return np.asarray(layer.gamma, "float64"), np.zeros(1)
    if type(layer) not in NORMS or getattr(layer, "renorm", False):  # Keras 3.14 or later
        return None
    if layer.axis not in {-1, len(call.inputs[0].shape) - 1}:
        return None
    mean, variance = (
        np.asarray(statistic, "float64") for statistic in (layer.moving_mean, layer.moving_variance)
    )
    factor = 1 / np.sqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        factor = factor * np.asarray(layer.gamma, "float64")
    shift = -mean * factor
    return factor, shift if layer.beta is None else shift + np.asarray(layer.beta, "float64")
