"""Makes the learning rate schedule, optimizer and loss of a run."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules

from ..optim import optimizers
from ..settings.config import TrainConfig
from .finetuning import layer_rates

PRESENT = 0.2
"""A class counts as present above this share of a mixed label (code of arXiv:2110.00476)."""


class WarmUp(schedules.LearningRateSchedule):
    """A linear warm-up before another schedule, in optimizer steps.

    Args:
        schedule: the schedule after the warm-up. It counts from the end of the warm-up.
        peak: learning rate at the end of the warm-up.
        steps: number of warm-up steps.
        accumulate: batches per optimizer step. Keras calls the schedule with the number of batches.
        minimum: lower limit of the learning rate after the warm-up.
    """

    def __init__(
        self,
        schedule: schedules.LearningRateSchedule,
        peak: float,
        steps: int,
        *,
        accumulate: int = 1,
        minimum: float = 0.0,
    ) -> None:
        self.schedule, self.peak, self.steps = schedule, peak, steps
        self.accumulate, self.minimum = accumulate, minimum

    def __call__(self, batches: Any) -> Any:
        step = ops.cast(ops.floor_divide(batches, self.accumulate), "float32")
        decay = ops.maximum(self.schedule(ops.maximum(step - self.steps, 0)), self.minimum)
        return ops.where(step < self.steps, self.peak * step / max(self.steps, 1), decay)


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> WarmUp:
    """Makes a linear warm-up, followed by cosine, step or exponential decay."""
    updates_per_epoch = steps_per_epoch / config.accumulate
    steps = max(1, int(config.epochs * updates_per_epoch))
    warmup = min(round(config.warmup_epochs * updates_per_epoch), steps - 1)
    peak, minimum = config.learning_rate, config.final_learning_rate
    decay: schedules.LearningRateSchedule
    if config.schedule == "cosine":
        decay = schedules.CosineDecay(peak, steps - warmup, alpha=minimum / peak)
    else:
        decay = schedules.ExponentialDecay(
            peak,
            config.decay_epochs * updates_per_epoch,
            config.decay_rate,
            staircase=config.schedule == "step",
        )
    return WarmUp(decay, peak, warmup, accumulate=config.accumulate, minimum=minimum)


def make_optimizer(
    config: TrainConfig, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a model. Weight decay applies to kernels only."""
    weights = model.trainable_weights
    # Selected by shape: vectors are biases, and scales of normalisation and LayerScale.
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
    """Makes the loss for one-hot or mixed labels and scores, both `(batch, classes)`."""
    smoothing = config.label_smoothing
    if config.loss == "crossentropy":
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)

    def binary(labels: Any, scores: Any) -> Any:
        """Binary crossentropy of each class.

        Label smoothing is that of a categorical loss, toward 1 / classes. Keras' binary loss
        smooths toward 1/2.
        """
        labels = ops.cast(labels > PRESENT, scores.dtype)
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        return keras.losses.binary_crossentropy(labels, scores)

    return binary
