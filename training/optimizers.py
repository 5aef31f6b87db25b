"""Keras' optimizers with a learning rate and a weight decay of each variable's own.

Keras has one of each for all variables. Its list of exceptions from decay is lost when an optimizer
is loaded, and its `MultiOptimizer` clips the gradients of each group by a norm of their own. The
factors here are no state: whoever makes an optimizer gives them.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class ByVariable:
    """Makes `update_step` of an optimizer, a base class beside this one, depend on the variable.

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
        # Private: Keras has no public way from a variable to its place, by which its own optimizers
        # find their averages, too. The tests against NumPy fail without it.
        return self._get_variable_index(variable)  # type: ignore[attr-defined]

    def decayed_step(self, gradient: Any, variable: Any, rate: Any, decay: float) -> None:
        """Decoupled from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101)."""
        if decay:
            self.assign_sub(variable, variable * decay * rate)  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]


class SGD(ByVariable, keras.optimizers.SGD):
    """Keras' SGD; its decay does not go through the momentum."""


class AdamW(ByVariable, keras.optimizers.Adam):
    """Keras' Adam with decoupled decay."""


class RMSprop(ByVariable, keras.optimizers.RMSprop):
    """RMSprop as TensorFlow 1 has it, which MobileNet and EfficientNet were trained with.

    As in Keras, epsilon is under the root and momentum takes what the learning rate has scaled; but
    the mean square begins with 1 in place of 0, and the decay is the gradient of a square.
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

    Keras' own leaves the decay out of the step whose norm it compares with the weights': kernels
    then shrink faster by the inverse of that ratio. As in the authors' code, biases and scales have
    steps as Adam's.
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
