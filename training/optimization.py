"""Learning rate schedule and optimizer of a run."""

import keras

from training.config import TrainConfig


def make_schedule(
    config: TrainConfig, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up to the peak, then a cosine to zero at the last step."""
    steps = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    peak = config.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else peak,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
        decay_steps=steps - warmup,
    )


def make_optimizer(
    config: TrainConfig, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """AdamW or SGD, with weight decay on kernels alone."""
    schedule = make_schedule(config, steps_per_epoch)
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    else:
        # Keras' decay is not scaled by the gradient's step; 0 would still build its ops.
        optimizer = keras.optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=config.weight_decay or None
        )
    # By variable and not by name: names match differently on each Keras backend.
    vectors = [weight for weight in model.trainable_weights if len(weight.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer
