"""From a flat network to one with rounded kernels and a range for each tensor of the file."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_archs.graph import Call, calls, new_inputs
from keras_archs.preprocessing import PreprocessInput

from .kernels import QuantizedDepthwiseConv2D
from .layers import (
    CUT_OFF,
    THREE,
    Ends,
    FakeQuantize,
    Limits,
    Range,
)
from .operations import (
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
    SAME_STEPS,
    SAME_VALUES,
    activation_of,
    factor_and_shift,
    is_followed_inside,
    separate,
    unknown,
)
from .rounding import Product, Requantize, Sigmoid, Sum, Unit

Step = Callable[..., Any]
"""What is computed in place of a layer or operation, on the same arguments."""


def rewrite(flat: keras.Model) -> keras.Model:
    """The network with kernels that are rounded and ranges that have seen nothing yet.

    Args:
        flat: see `flatten`; it stays as it is.

    Raises:
        InputError: a layer or operation has no int8 version, or none that is known here.
    """
    inputs = new_inputs(flat)
    rewriter = _Rewriter(flat, keras.tree.flatten(inputs))
    return keras.models.clone_model(
        flat, inputs, clone_function=rewriter.step, call_function=rewriter.call
    )


class _Rewriter:
    """Makes a step of each layer and operation, and ranges in between."""

    def __init__(self, flat: keras.Model, inputs: list[Any]) -> None:
        every = list(calls(flat))
        self._ends = {id(output) for output in flat.outputs}
        self._users: dict[int, list[Any]] = {}
        for call in every:
            for tensor in call.inputs:
                self._users.setdefault(id(tensor), []).append(call.operation)
        # By identity: operations whose results get no range of their own, in all of their calls.
        self._followed = {id(call.operation) for call in every}
        self._followed -= {id(call.operation) for call in every if not self._is_followed(call)}
        self._last = {
            id(call.operation)
            for call in every
            if id(call.outputs[0]) in self._ends and id(call.outputs[0]) not in self._users
        }
        self._before = {
            id(call.operation): self._only_user(call.operation, every) for call in every
        }
        self._names: set[str] = set()
        # What has the range of tensors, by their identity; and the tensors, so that it stays one.
        self._ends_of: dict[int, Ends] = {}
        self._tensors: list[Any] = []
        # How exact results come to lie on steps: a layer, made with these, called on those.
        self._moves: dict[int, tuple[type, tuple[Any, ...], tuple[Any, ...]]] = {}
        self._begun = {id(each): self._with_range("input", each) for each in inputs}

    def _is_followed(self, call: Call) -> bool:
        output = call.outputs[0]
        users = self._users.get(id(output), [])
        inside = len(call.outputs) == len(users) == 1 and id(output) not in self._ends
        return inside and is_followed_inside(call.operation, users[0])

    def _only_user(self, operation: Any, every: list[Call]) -> str | None:
        """The activation of `CUT_OFF` that everything is which takes an operation's results."""
        outputs = {id(x) for call in every if call.operation is operation for x in call.outputs}
        takers = {activation_of(user) for x in outputs for user in self._users.get(x, [])}
        if len(takers) == 1 and takers <= CUT_OFF.keys() and outputs.isdisjoint(self._ends):
            return takers.pop()
        return None

    def call(self, step: Step, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(lambda x: self._begun.get(id(x), x), (args, kwargs))
        return step(*args, **kwargs)

    def step(self, operation: Any) -> Step:
        kind = type(operation)
        if kind in KERNELS:
            return self._kernel(operation)
        if kind is layers.SeparableConv2D:
            return self._separable(operation)
        if kind in AFFINE:
            return self._affine(operation)
        return self._without_weights(operation)

    def _without_weights(self, operation: Any) -> Step:
        compute, name = operation, type(operation).__name__
        if isinstance(operation, layers.Layer):
            compute = type(operation).from_config(operation.get_config())
        if activation := activation_of(operation):
            return lambda x: self._activate(operation, activation, compute, x)
        if name in ARITHMETIC:
            return lambda *args: self._arithmetic(operation, compute, *args)
        if name == "Concatenate" and id(operation) not in self._followed:
            return lambda parts: self._concatenate(operation, compute, parts)
        if name in MEANS:
            return lambda x, **kwargs: self._mean(operation, compute, x, **kwargs)
        if name in NEW_RANGE:
            return lambda *args, **kwargs: self._finish(operation, compute(*args, **kwargs))
        if name in SAME_VALUES | SAME_STEPS:
            return lambda *args, **kwargs: self._same(operation.name, compute, *args, **kwargs)
        raise unknown(operation, "it has no int8 version, or none that is known here")

    def _kernel(self, layer: Any, place: Any = None) -> Step:
        """
        Args:
            place: the layer in whose place of the network it stands; itself by default.
        """
        place = place or layer
        activation = FUNCTIONS.get(layer.activation)
        if activation is None:
            raise unknown(layer, f"its activation {layer.activation!r} has no int8 version")
        config = layer.get_config() | {"activation": activation if activation in FUSED else None}
        quantized = KERNELS[type(layer)].from_config(config)

        def step(x: Any) -> Any:
            x = self._with_weights(quantized, x, layer.get_weights())
            if activation in {"linear", *FUSED}:
                return self._finish(place, x)
            before = activation if activation in CUT_OFF else None
            x = self._with_range(layer.name, x, before=before)
            function = self._new(layers.Activation, f"{layer.name}_{activation}", activation)
            return self._activate(place, activation, function, x)

        return step

    def _separable(self, layer: Any) -> Step:
        depthwise, kernel, pointwise = separate(layer)
        end = self._kernel(pointwise, place=layer)

        def step(x: Any) -> Any:
            return end(self._with_range(depthwise.name, self._with_weights(depthwise, x, [kernel])))

        return step

    def _affine(self, layer: Any) -> Step:
        """A depthwise convolution of one position: one operation in TFLite, and exact sums."""
        if isinstance(layer, PreprocessInput) and layer.preprocessing.bgr:
            raise unknown(layer, "it changes the order of the channels")
        # Preprocessing has constants, which must not learn.
        trainable = layer.trainable and bool(layer.trainable_weights)
        quantized = QuantizedDepthwiseConv2D(
            1, name=layer.name, trainable=trainable, dtype="float32"
        )

        def step(x: Any, **_: Any) -> Any:
            if len(x.shape) != 4:
                raise unknown(layer, f"its input, {tuple(x.shape)}, is no feature map")
            weights = factor_and_shift(layer, x.shape[-1])
            return self._finish(layer, self._with_weights(quantized, x, weights))

        return step

    def _arithmetic(self, operation: Any, compute: Step, *args: Any) -> Any:
        if isinstance(operation, layers.Layer) and len(args[0]) > 2:  # TFLite takes two at a time
            first, *middle, last = args[0]
            for each in middle:
                name = self._name(f"{operation.name}_part")
                part = type(operation)(name=name, dtype="float32")
                first = self._with_range(name, self._binary(part, [first, each]))
            args = ([first, last],)
        return self._finish(operation, self._binary(compute, *args))

    def _binary(self, compute: Any, *args: Any) -> Any:
        """A sum, difference or product of two, or of one and a constant."""
        x = compute(*args)
        pair = keras.tree.flatten(args)
        if any(id(each) not in self._ends_of for each in pair):  # a constant
            return x
        ranges = tuple(self._range(each) for each in pair)
        if type(compute).__name__ == "Multiply":
            return self._product(x, self._new(Unit, f"{compute.name}_unit")(*ranges))
        sign = -1 if type(compute).__name__ == "Subtract" else 1
        return self._exact(x, Sum, (sign,), *pair, *ranges)

    def _mean(self, operation: Any, compute: Step, x: Any, **kwargs: Any) -> Any:
        outputs = compute(x, **kwargs)
        count = 1
        if type(operation).__name__ != "Sum":
            count = math.prod(x.shape[1:]) // math.prod(outputs.shape[1:])
        unit = self._new(Unit, f"{operation.name}_unit", count)(self._range(x))
        return self._finish(operation, self._product(outputs, unit))

    def _product(self, x: Any, unit: Any) -> Any:
        return self._exact(x, Product, (), ops.round(x / unit), unit)

    def _concatenate(self, operation: Any, compute: Step, parts: Any) -> Any:
        """Parts that have ranges of their own change to that of the whole."""
        ends = self._new(Ends, f"{operation.name}_ends")
        behind = ends(parts)

        def change(x: Any) -> Any:
            name = f"{operation.name}_part"
            if id(x) not in self._ends_of:
                return self._moved(name, x, behind)
            return self._new(Requantize, name)(x, behind, x, self._range(x))

        x = compute(keras.tree.map_structure(change, parts))
        return self._rounded(operation.name, x, ends, behind)

    def _same(self, name: str, compute: Step, *args: Any, **kwargs: Any) -> Any:
        tensors = keras.tree.flatten((args, kwargs))
        ends = next(self._ends_of[id(x)] for x in tensors if id(x) in self._ends_of)
        outputs = compute(*args, **kwargs)
        if type(compute).__name__ in SAME_STEPS:
            pooled = self._new(FakeQuantize, f"{name}_range", True)
            outputs = pooled(outputs, ends(outputs, moves=False))
        for output in keras.tree.flatten(outputs):
            self._note(output, ends)
        return outputs

    def _activate(self, operation: Any, activation: str, compute: Step, x: Any) -> Any:
        name = operation.name
        if activation in GATES:  # several operations in TFLite
            gate = self._gate(f"{name}_gate", GATES[activation], x)
            gated = self._new(layers.Multiply, f"{name}_gated")
            return self._finish(operation, self._binary(gated, [x, gate]))
        if activation == "hard_sigmoid":
            return self._gate(name, activation, x)
        # A ReLU behind a tensor that has steps of its own scales these.
        scales = activation in FUSED and id(x) in self._ends_of
        if (scales or activation == "leaky_relu") and id(operation) not in self._followed:
            if activation == "leaky_relu":
                slope = -float(compute(np.full((1, 1), -1.0, np.float32))[0, 0])
                how: tuple[Any, ...] = (slope,)
            else:
                how = (1.0, True)
            exact = self._exact(compute(x), Requantize, how, x, self._range(x))
            return self._with_range(name, exact)
        outputs = compute(x)
        if activation in FUSED and id(x) in self._moves:
            self._moves[id(outputs)] = self._moves[id(x)]
        if activation == "sigmoid":
            self._exact(outputs, Sigmoid, (), x, self._range(x))
        return self._finish(operation, outputs, LIMITS.get(activation))

    def _gate(self, name: str, activation: str, x: Any) -> Any:
        if activation == "sigmoid":
            gate = self._new(layers.Activation, name, "sigmoid")(x)
            gate = self._exact(gate, Sigmoid, (), x, self._range(x))
            return self._with_range(name, gate, PROBABILITIES)
        x = self._with_range(f"{name}_relu6", ops.relu6(x + THREE), (0.0, 6.0))
        return self._with_range(name, x * (1 / 6), (0.0, 1.0))

    def _with_weights(self, layer: Any, x: Any, weights: list[np.ndarray]) -> Any:
        outputs, sums, unit = layer(x, self._range(x))
        layer.set_weights(weights)
        return self._exact(outputs, Product, (), sums, unit)

    def _finish(self, operation: Any, x: Any, limits: Limits | None = None) -> Any:
        if limits:
            # The converter knows the range without being told, and the loss needs the scores as
            # they are: one that is rounded to zero has no gradient.
            return x if id(operation) in self._last else self._with_range(operation.name, x, limits)
        if id(operation) in self._followed:
            return x
        return self._with_range(operation.name, x, before=self._before.get(id(operation)))

    def _with_range(
        self, name: str, x: Any, limits: Limits | None = None, before: str | None = None
    ) -> Any:
        ends = self._new(Ends, f"{name}_ends", limits, before)
        return self._rounded(name, x, ends, ends(x))

    def _rounded(self, name: str, x: Any, ends: Ends, found: Range) -> Any:
        x = self._moved(name, x, found)
        return self._note(self._new(FakeQuantize, f"{name}_range")(x, found), ends)

    def _exact(self, x: Any, kind: type, how: tuple[Any, ...], *sources: Any) -> Any:
        """Notes how `x` is to be moved to the steps of its range, as soon as it has one."""
        self._moves[id(x)] = kind, how, sources
        self._tensors.append(x)
        return x

    def _moved(self, name: str, x: Any, behind: Range) -> Any:
        if id(x) not in self._moves:
            return x
        kind, how, sources = self._moves[id(x)]
        return self._new(kind, f"{name}_steps", *how)(x, behind, *sources)

    def _range(self, x: Any) -> Range:
        """Of a tensor that has one; by a call on itself, so that a model can be cut behind it."""
        return self._ends_of[id(x)](x, moves=False)

    def _note(self, x: Any, ends: Ends) -> Any:
        self._ends_of[id(x)] = ends
        self._tensors.append(x)
        return x

    def _new(self, kind: Any, name: str, *args: Any) -> Any:
        return kind(*args, name=self._name(name), dtype="float32")

    def _name(self, name: str) -> str:
        """`name`, or with a number where a layer that is called once more has taken it."""
        free, count = name, 1
        while free in self._names:
            free, count = f"{name}_{count}", count + 1
        self._names.add(free)
        return free
