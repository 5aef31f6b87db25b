"""Builds and compiles the model for a run's settings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_archs
from keras_archs.errors import InputError, as_given
from keras_archs.transforms.quantization.quantize_aware import quantize_aware

from ..distributed.devices import Devices
from ..optim.ema import Averages
from ..runs.checkpoints import are_finite
from ..runs.run_folder import Settings
from ..settings.config import TrainConfig
from ..settings.image_sizes import Stage, make_stages
from .distillation import Student, load_teacher
from .finetuning import freeze, initialise
from .progressive_resizing import any_size
from .schedules import make_loss, make_optimizer


@dataclass(frozen=True)
class TrainingModel:
    """A compiled model and everything that its training needs.

    Attributes:
        network: the network that is saved. It is not compiled.
        model: compiled model of the network's layers.
        averages: moving averages of the weights, if the settings ask for them.
        steps: number of steps in an epoch.
        stages: stages of progressive resizing, or a single stage.
        devices: devices that train the model.
    """

    network: keras.Model
    model: keras.Model
    averages: Averages | None
    steps: int
    stages: list[Stage]
    devices: Devices


def build_training_model(
    settings: Settings,
    steps: int,
    devices: Devices,
    *,
    representative: Callable[[], np.ndarray],
    initialised: bool = False,
) -> TrainingModel:
    """Builds and compiles the model of a run.

    Args:
        settings: settings of the run.
        steps: number of steps in an epoch.
        devices: devices to train on.
        representative: returns preprocessed images for the initial ranges of `qat`.
        initialised: whether a checkpoint will provide the weights.

    Raises:
        InputError: settings contradict each other.
    """
    config = settings.config
    stages = make_stages(config, settings.input_shape[0])
    with devices.strategy.scope():
        network = build_network(settings, initialised=initialised)
        if config.qat:
            network = quantize_aware(network, None if initialised else representative())
        source = network
        if config.progressive_from is not None:
            source = any_size(network, partial(create_network, settings))
        tensors = source.input, source.output
        model = (
            keras.Model(*tensors, name=network.name)
            if config.teacher is None
            else Student(
                *tensors,
                teacher=load_teacher(config, settings),
                weight=config.distill_weight,
                temperature=config.distill_temperature,
                name=network.name,
            )
        )
        model.compile(
            optimizer=make_optimizer(config, model, steps_per_epoch=steps),
            loss=make_loss(config),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        build_state(model, len(settings.class_names))
        averages = None if config.ema is None else Averages(model, config.ema)
    return TrainingModel(network, model, averages, steps, stages, devices)


def build_network(settings: Settings, *, initialised: bool = False) -> keras.Model:
    """Builds a run's network, with its initial weights unless a checkpoint will provide them."""
    config = settings.config
    build = partial(create_network, settings)
    keras.utils.set_random_seed(config.seed)
    network = build()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    if config.init is not None and not initialised:
        initialise(network, config.init, build, settings.class_names)
    for name, value in {"init": config.init, "weights": config.model_args.get("weights")}.items():
        if value is not None and not initialised and not are_finite(network.variables):
            raise InputError(f"{name}={value!r} has weights that are not finite.")
    freeze(network, config)
    return network


def create_network(settings: Settings, **changes: Any) -> keras.Model:
    """Calls the builder of a run's network, with `changes` to the arguments."""
    config = settings.config
    arguments = {
        "input_shape": settings.input_shape,
        "classes": len(settings.class_names),
        **config.model_args,
        **changes,
    }
    if config.loss == "binary":
        arguments["classifier_activation"] = "sigmoid"
    shape = settings.input_shape
    with (
        as_given(f"input_shape={shape}", f"image_size={shape[0]}"),
        as_given("include_top=False to put your own classifier", "init to put a new classifier"),
    ):
        return keras_archs.create_model(config.model, **arguments)


def numerics(config: TrainConfig) -> AbstractContextManager[None]:
    """Sets the global precision inside the `with` block, and determinism permanently."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    return precision(config.precision)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets the global dtype policy inside the `with` block."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def build_state(model: keras.Model, classes: int) -> None:
    """Creates the variables of optimizer and metrics, which Keras would create in the first step.

    They must exist before a checkpoint is restored.
    """
    model.optimizer.build(model.trainable_variables)
    scores = np.zeros((1, classes), "float32")
    # Metrics of a distributed model can only be updated by a replica, or statelessly.
    with keras.StatelessScope():
        model.compute_metrics(None, scores, scores)
