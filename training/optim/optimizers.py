"""Optimizers with a separate learning rate and weight decay for each variable.

Keras' optimizers have one learning rate and one weight decay for all variables. A loaded optimizer
loses its list of variables without decay. `MultiOptimizer` clips the gradients of each group
separately. The factors here are arguments, not state: the caller gives them to each new optimizer.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class ByVariable:
    """Mixin for a Keras optimizer: its `update_step` depends on the variable.

    Args:
        rates: factors on the learning rate, in the order of the variables.
        decays: weight decays, in the same order.
    """

    def __init__(self, *args: Any, rates: Sequence[float], decays: Sequence[float], **kw: Any):
        super().__init__(*args, **kw)
        self.rates, self.decays = tuple(rates), tuple(decays)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self.rates[index]
        self.decayed_step(gradient, variable, rate, self.decays[index])

    def _index(self, variable: Any) -> int:
        # Private: Keras has no public function for a variable's index. Its own optimizers use this
        # one to find their averages. The tests against NumPy fail without it.
        return self._get_variable_index(variable)  # type: ignore[attr-defined]

    def decayed_step(self, gradient: Any, variable: Any, rate: Any, decay: float) -> None:
        """Takes a step with decoupled decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""
        if decay:
            self.assign_sub(variable, variable * decay * rate)  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]


class SGD(ByVariable, keras.optimizers.SGD):
    """Keras' SGD with decoupled decay, which does not enter the momentum."""


class AdamW(ByVariable, keras.optimizers.Adam):
    """Keras' Adam with decoupled decay."""


class RMSprop(ByVariable, keras.optimizers.RMSprop):
    """RMSprop of TensorFlow 1, with which MobileNet and EfficientNet were trained.

    As in Keras, epsilon is under the root, and the momentum accumulates steps that the learning
    rate has scaled. Unlike in Keras, the mean square starts at 1 instead of 0, and the decay is the
    gradient of an L2 loss.
    """

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Any], name: Any, initializer: Any = "zeros"
    ) -> Any:
        return super().add_optimizer_variables(
            trainable_variables, name, "ones" if name == "velocity" else initializer
        )

    def decayed_step(self, gradient: Any, variable: Any, rate: Any, decay: float) -> None:
        super().decayed_step(gradient + decay * variable if decay else gradient, variable, rate, 0)


class Lamb(ByVariable, keras.optimizers.Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2).

    Keras' LAMB omits the decay from the step whose norm it compares with the norm of the weights.
    Kernels then shrink faster, by the inverse of that ratio. As in the authors' code, biases and
    scales take Adam's steps.
    """

    BETAS, EPSILON = (0.9, 0.999), 1e-6

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self._means, self._squares = self.add_optimizer_variables(variables, ["mean", "square"])

    def decayed_step(self, gradient: Any, variable: Any, rate: Any, decay: float) -> None:
        index = self._index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        count = ops.cast(self.iterations + 1, variable.dtype)
        averages = []
        for beta, average, new in zip(
            self.BETAS,
            (self._means[index], self._squares[index]),
            (gradient, ops.square(gradient)),
            strict=True,
        ):
            self.assign_add(average, (new - average) * (1 - beta))
            averages.append(average / (1 - ops.power(ops.cast(beta, variable.dtype), count)))
        step = averages[0] / (ops.sqrt(averages[1]) + self.EPSILON) + decay * variable
        if len(variable.shape) > 1:
            weight_norm, step_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, step))
            defined = ops.logical_and(weight_norm > 0, step_norm > 0)
            rate = rate * ops.where(defined, weight_norm / ops.where(defined, step_norm, 1), 1)
        self.assign_sub(variable, rate * step)
