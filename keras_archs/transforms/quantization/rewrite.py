"""Rewrites a flat network with rounded kernels and a range for each tensor of the file."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ...graph import Call, calls, new_inputs
from ...preprocessing import PreprocessInput
from .int8_rules import (
    AFFINE,
    ARITHMETIC,
    FUNCTIONS,
    FUSED,
    GATES,
    KERNELS,
    LIMITS,
    MEANS,
    NEW_RANGE,
    PROBABILITIES,
    SAME_LEVELS,
    SAME_VALUES,
    activation_of,
    factor_and_shift,
    separate,
    takes_range_of,
    unsupported,
)
from .quantized_layers import QuantizedDepthwiseConv2D
from .ranges import CUT_OFF, HARD_SIGMOID_OFFSET, FakeQuantize, Limits, QuantizationRange, Range
from .xnnpack_rounding import Product, ProductScale, Requantize, Sigmoid, Sum

Replacement = Callable[..., Any]
"""Computes on the arguments of a layer or operation, in place of it."""


def rewrite(flat: keras.Model) -> keras.Model:
    """The same network with rounded kernels and with ranges that are still empty.

    Args:
        flat: see `flatten`; it is not changed.

    Raises:
        InputError: a layer or operation has no int8 version, or an unsupported one.
    """
    inputs = new_inputs(flat)
    rewriter = _Rewriter(flat, keras.tree.flatten(inputs))
    return keras.models.clone_model(
        flat, inputs, clone_function=rewriter.replacement, call_function=rewriter.call
    )


class _Rewriter:
    """Makes a replacement for each layer and operation, and ranges between them."""

    def __init__(self, flat: keras.Model, inputs: list[Any]) -> None:
        graph_calls = list(calls(flat))
        self._model_outputs = {id(output) for output in flat.outputs}
        self._users: dict[int, list[Any]] = {}
        for call in graph_calls:
            for tensor in call.inputs:
                self._users.setdefault(id(tensor), []).append(call.operation)
        # By identity: operations whose results have no range of their own in any call.
        self._without_range = {id(call.operation) for call in graph_calls}
        self._without_range -= {
            id(call.operation) for call in graph_calls if not self._has_no_range(call)
        }
        self._final = {
            id(call.operation)
            for call in graph_calls
            if id(call.outputs[0]) in self._model_outputs and id(call.outputs[0]) not in self._users
        }
        self._cut_off_users = {
            id(call.operation): self._only_user(call.operation, graph_calls) for call in graph_calls
        }
        self._names: set[str] = set()
        # The layer with the range of each tensor, by the tensor's id. The tensors are kept, so that
        # their ids stay unique.
        self._range_layers: dict[int, QuantizationRange] = {}
        self._tensors: list[Any] = []
        # How exact results are rounded: class of the layer, its arguments, and those of its call.
        self._roundings: dict[int, tuple[type, tuple[Any, ...], tuple[Any, ...]]] = {}
        self._quantized_inputs = {id(image): self._with_range("input", image) for image in inputs}

    def _has_no_range(self, call: Call) -> bool:
        output = call.outputs[0]
        users = self._users.get(id(output), [])
        inside = len(call.outputs) == len(users) == 1 and id(output) not in self._model_outputs
        return inside and takes_range_of(call.operation, users[0])

    def _only_user(self, operation: Any, graph_calls: list[Call]) -> str | None:
        """The activation of `CUT_OFF` that all users of an operation's results are, or None."""
        outputs = {
            id(x) for call in graph_calls if call.operation is operation for x in call.outputs
        }
        takers = {activation_of(user) for x in outputs for user in self._users.get(x, [])}
        if (
            len(takers) == 1
            and takers <= CUT_OFF.keys()
            and outputs.isdisjoint(self._model_outputs)
        ):
            return takers.pop()
        return None

    def call(self, replacement: Replacement, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(
            lambda x: self._quantized_inputs.get(id(x), x), (args, kwargs)
        )
        return replacement(*args, **kwargs)

    def replacement(self, operation: Any) -> Replacement:
        kind = type(operation)
        if kind in KERNELS:
            return self._kernel(operation)
        if kind is layers.SeparableConv2D:
            return self._separable(operation)
        if kind in AFFINE:
            return self._affine(operation)
        return self._without_weights(operation)

    def _without_weights(self, operation: Any) -> Replacement:
        compute, name = operation, type(operation).__name__
        if isinstance(operation, layers.Layer):
            compute = type(operation).from_config(operation.get_config())
        if activation := activation_of(operation):
            return lambda x: self._activate(operation, activation, compute, x)
        if name in ARITHMETIC:
            return lambda *args: self._arithmetic(operation, compute, *args)
        if name == "Concatenate" and id(operation) not in self._without_range:
            return lambda parts: self._concatenate(operation, compute, parts)
        if name in MEANS:
            return lambda x, **kwargs: self._mean(operation, compute, x, **kwargs)
        if name in NEW_RANGE:
            return lambda *args, **kwargs: self._finish(operation, compute(*args, **kwargs))
        if name in SAME_VALUES | SAME_LEVELS:
            return lambda *args, **kwargs: self._same(operation.name, compute, *args, **kwargs)
        raise unsupported(operation, "it has no supported int8 version")

    def _kernel(self, layer: Any, place: Any = None) -> Replacement:
        """The replacement of a layer with a kernel.

        Args:
            place: the layer of the network that is replaced; `layer` by default.
        """
        place = place or layer
        activation = FUNCTIONS.get(layer.activation)
        if activation is None:
            raise unsupported(layer, f"its activation {layer.activation!r} has no int8 version")
        config = layer.get_config() | {"activation": activation if activation in FUSED else None}
        quantized = KERNELS[type(layer)].from_config(config)

        def replacement(x: Any) -> Any:
            x = self._with_weights(quantized, x, layer.get_weights())
            if activation in {"linear", *FUSED}:
                return self._finish(place, x)
            before = activation if activation in CUT_OFF else None
            x = self._with_range(layer.name, x, before=before)
            function = self._new(layers.Activation, f"{layer.name}_{activation}", activation)
            return self._activate(place, activation, function, x)

        return replacement

    def _separable(self, layer: Any) -> Replacement:
        depthwise, kernel, pointwise = separate(layer)
        end = self._kernel(pointwise, place=layer)

        def replacement(x: Any) -> Any:
            return end(self._with_range(depthwise.name, self._with_weights(depthwise, x, [kernel])))

        return replacement

    def _affine(self, layer: Any) -> Replacement:
        """A depthwise 1x1 convolution: one operator in TFLite, and exact sums."""
        if isinstance(layer, PreprocessInput) and layer.preprocessing.bgr:
            raise unsupported(layer, "it changes the order of the channels")
        # The constants of preprocessing must not be trained.
        trainable = layer.trainable and bool(layer.trainable_weights)
        quantized = QuantizedDepthwiseConv2D(
            1, name=layer.name, trainable=trainable, dtype="float32"
        )

        def replacement(x: Any, **_: Any) -> Any:
            if len(x.shape) != 4:
                raise unsupported(
                    layer,
                    f"its input must be (batch, height, width, channels), got {tuple(x.shape)}",
                )
            weights = factor_and_shift(layer, x.shape[-1])
            return self._finish(layer, self._with_weights(quantized, x, weights))

        return replacement

    def _arithmetic(self, operation: Any, compute: Replacement, *args: Any) -> Any:
        if (
            isinstance(operation, layers.Layer) and len(args[0]) > 2
        ):  # TFLite adds two tensors at a time
            first, *middle, last = args[0]
            for tensor in middle:
                name = self._name(f"{operation.name}_part")
                part = type(operation)(name=name, dtype="float32")
                first = self._with_range(name, self._binary(part, [first, tensor]))
            args = ([first, last],)
        return self._finish(operation, self._binary(compute, *args))

    def _binary(self, compute: Any, *args: Any) -> Any:
        """A sum, difference or product of two tensors, or of a tensor and a constant."""
        x = compute(*args)
        pair = keras.tree.flatten(args)
        if any(id(tensor) not in self._range_layers for tensor in pair):  # a constant
            return x
        ranges = tuple(self._range(tensor) for tensor in pair)
        if type(compute).__name__ == "Multiply":
            return self._product(x, self._new(ProductScale, f"{compute.name}_unit")(*ranges))
        sign = -1 if type(compute).__name__ == "Subtract" else 1
        return self._record_rounding(x, Sum, (sign,), *pair, *ranges)

    def _mean(self, operation: Any, compute: Replacement, x: Any, **kwargs: Any) -> Any:
        outputs = compute(x, **kwargs)
        count = 1
        if type(operation).__name__ != "Sum":
            count = math.prod(x.shape[1:]) // math.prod(outputs.shape[1:])
        scale = self._new(ProductScale, f"{operation.name}_unit", count)(self._range(x))
        return self._finish(operation, self._product(outputs, scale))

    def _product(self, x: Any, scale: Any) -> Any:
        return self._record_rounding(x, Product, (), ops.round(x / scale), scale)

    def _concatenate(self, operation: Any, compute: Replacement, parts: Any) -> Any:
        """Moves parts that have ranges of their own to the range of the result."""
        layer = self._new(QuantizationRange, f"{operation.name}_ends")
        output_range = layer(parts)

        def change(x: Any) -> Any:
            name = f"{operation.name}_part"
            if id(x) not in self._range_layers:
                return self._round_exactly(name, x, output_range)
            return self._new(Requantize, name)(x, output_range, x, self._range(x))

        x = compute(keras.tree.map_structure(change, parts))
        return self._quantize(operation.name, x, layer, output_range)

    def _same(self, name: str, compute: Replacement, *args: Any, **kwargs: Any) -> Any:
        tensors = keras.tree.flatten((args, kwargs))
        layer = next(self._range_layers[id(x)] for x in tensors if id(x) in self._range_layers)
        outputs = compute(*args, **kwargs)
        if type(compute).__name__ in SAME_LEVELS:
            pooled = self._new(FakeQuantize, f"{name}_range", True)
            outputs = pooled(outputs, layer(outputs, moves=False))
        for output in keras.tree.flatten(outputs):
            self._record_range(output, layer)
        return outputs

    def _activate(self, operation: Any, activation: str, compute: Replacement, x: Any) -> Any:
        name = operation.name
        if activation in GATES:  # several operators in TFLite
            gate = self._gate(f"{name}_gate", GATES[activation], x)
            gated = self._new(layers.Multiply, f"{name}_gated")
            return self._finish(operation, self._binary(gated, [x, gate]))
        if activation == "hard_sigmoid":
            return self._gate(name, activation, x)
        # A ReLU after a tensor that has a range of its own moves its levels.
        moves = activation in FUSED and id(x) in self._range_layers
        if (moves or activation == "leaky_relu") and id(operation) not in self._without_range:
            if activation == "leaky_relu":
                slope = -float(compute(np.full((1, 1), -1.0, np.float32))[0, 0])
                arguments: tuple[Any, ...] = (slope,)
            else:
                arguments = (1.0, True)
            exact = self._record_rounding(compute(x), Requantize, arguments, x, self._range(x))
            return self._with_range(name, exact)
        outputs = compute(x)
        if activation in FUSED and id(x) in self._roundings:
            self._roundings[id(outputs)] = self._roundings[id(x)]
        if activation == "sigmoid":
            self._record_rounding(outputs, Sigmoid, (), x, self._range(x))
        return self._finish(operation, outputs, LIMITS.get(activation))

    def _gate(self, name: str, activation: str, x: Any) -> Any:
        if activation == "sigmoid":
            gate = self._new(layers.Activation, name, "sigmoid")(x)
            gate = self._record_rounding(gate, Sigmoid, (), x, self._range(x))
            return self._with_range(name, gate, PROBABILITIES)
        x = self._with_range(f"{name}_relu6", ops.relu6(x + HARD_SIGMOID_OFFSET), (0.0, 6.0))
        return self._with_range(name, x * (1 / 6), (0.0, 1.0))

    def _with_weights(self, layer: Any, x: Any, weights: list[np.ndarray]) -> Any:
        outputs, sums, scale = layer(x, self._range(x))
        layer.set_weights(weights)
        return self._record_rounding(outputs, Product, (), sums, scale)

    def _finish(self, operation: Any, x: Any, limits: Limits | None = None) -> Any:
        if limits:
            # The converter knows this range. The scores of the network are not rounded: the loss
            # would have no gradient for a score that is rounded to zero.
            return (
                x if id(operation) in self._final else self._with_range(operation.name, x, limits)
            )
        if id(operation) in self._without_range:
            return x
        return self._with_range(operation.name, x, before=self._cut_off_users.get(id(operation)))

    def _with_range(
        self, name: str, x: Any, limits: Limits | None = None, before: str | None = None
    ) -> Any:
        layer = self._new(QuantizationRange, f"{name}_ends", limits, before)
        return self._quantize(name, x, layer, layer(x))

    def _quantize(self, name: str, x: Any, layer: QuantizationRange, ends: Range) -> Any:
        x = self._round_exactly(name, x, ends)
        return self._record_range(self._new(FakeQuantize, f"{name}_range")(x, ends), layer)

    def _record_rounding(
        self, x: Any, kind: type, arguments: tuple[Any, ...], *sources: Any
    ) -> Any:
        """Records how `_round_exactly` rounds `x` once its range is known."""
        self._roundings[id(x)] = kind, arguments, sources
        self._tensors.append(x)
        return x

    def _round_exactly(self, name: str, x: Any, output_range: Range) -> Any:
        if id(x) not in self._roundings:
            return x
        kind, arguments, sources = self._roundings[id(x)]
        return self._new(kind, f"{name}_steps", *arguments)(x, output_range, *sources)

    def _range(self, x: Any) -> Range:
        """The range of a tensor, by a call on the tensor, so that a model can be cut after it."""
        return self._range_layers[id(x)](x, moves=False)

    def _record_range(self, x: Any, layer: QuantizationRange) -> Any:
        self._range_layers[id(x)] = layer
        self._tensors.append(x)
        return x

    def _new(self, kind: Any, name: str, *args: Any) -> Any:
        return kind(*args, name=self._name(name), dtype="float32")

    def _name(self, name: str) -> str:
        """`name`, with a number if it is taken, as by an earlier call of the same layer."""
        free, count = name, 1
        while free in self._names:
            free, count = f"{name}_{count}", count + 1
        self._names.add(free)
        return free
