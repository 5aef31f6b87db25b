"""Learning rate schedule, optimizer and loss of a run."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules

from . import optimizers
from .config import TrainConfig
from .finetuning import layer_rates

PRESENT = 0.2
"""Share of a mixed label from which a class counts as shown (arXiv:2110.00476's code)."""


class WarmUp(schedules.LearningRateSchedule):
    """A linear rise in front of another schedule, in steps of the optimizer.

    Args:
        schedule: what follows; it counts from the end of the rise.
        peak: the learning rate that the rise leads to.
        steps: of the rise.
        accumulate: batches to a step. Keras hands over the number of batches.
        least: the learning rate behind the rise is not below it.
    """

    def __init__(
        self,
        schedule: schedules.LearningRateSchedule,
        peak: float,
        steps: int,
        *,
        accumulate: int = 1,
        least: float = 0.0,
    ) -> None:
        self.schedule, self.peak, self.steps = schedule, peak, steps
        self.accumulate, self.least = accumulate, least

    def __call__(self, batches: Any) -> Any:
        step = ops.cast(ops.floor_divide(batches, self.accumulate), "float32")
        falling = ops.maximum(self.schedule(ops.maximum(step - self.steps, 0)), self.least)
        return ops.where(step < self.steps, self.peak * step / max(self.steps, 1), falling)


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> WarmUp:
    """Linear warm-up to the peak, then a cosine to the last step, or steps or a curve down."""
    of_epoch = steps_per_epoch / config.accumulate
    steps = max(1, int(config.epochs * of_epoch))
    warmup = min(round(config.warmup_epochs * of_epoch), steps - 1)
    peak, least = config.learning_rate, config.final_learning_rate
    falling: schedules.LearningRateSchedule
    if config.schedule == "cosine":
        falling = schedules.CosineDecay(peak, steps - warmup, alpha=least / peak)
    else:
        falling = schedules.ExponentialDecay(
            peak,
            config.decay_epochs * of_epoch,
            config.decay_rate,
            staircase=config.schedule == "step",
        )
    return WarmUp(falling, peak, warmup, accumulate=config.accumulate, least=least)


def make_optimizer(
    config: TrainConfig, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """The optimizer of a model, with weight decay on kernels alone."""
    weights = model.trainable_weights
    # By shape and not by name: vectors are biases, scales of norms and LayerScale's.
    decays = [config.weight_decay if len(weight.shape) > 1 else 0.0 for weight in weights]
    kind, arguments = {
        "sgd": (optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        "adamw": (optimizers.AdamW, {}),
        "rmsprop": (optimizers.RMSprop, {"rho": 0.9, "momentum": 0.9, "epsilon": 1e-3}),
        "lamb": (optimizers.Lamb, {}),
    }[config.optimizer]
    return kind(
        make_schedule(config, steps_per_epoch),
        rates=layer_rates(model, config.layer_decay),
        decays=decays,
        global_clipnorm=config.clip_norm,
        gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None,
        **arguments,
    )


def make_loss(config: TrainConfig) -> Callable[[Any, Any], Any]:
    """The loss of one-hot or mixed labels and scores, `(batch, classes)`."""
    smoothing = config.label_smoothing
    if config.loss == "crossentropy":
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)

    def binary(labels: Any, scores: Any) -> Any:
        """Of each class by itself; the smoothing is a categorical loss's, not Keras' to 1/2."""
        labels = ops.cast(labels > PRESENT, scores.dtype)
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        return keras.losses.binary_crossentropy(labels, scores)

    return binary
