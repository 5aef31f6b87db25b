"""From the settings of a run to the compiled model that is trained."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_archs
from keras_archs.arguments import check_number
from keras_archs.errors import InputError, as_given
from keras_archs.files import local_path
from keras_archs.registry import find
from keras_archs.tflite_export.fake_quantization.model import quantize_aware

from .averaging import Averages
from .checkpoints import are_finite
from .config import TrainConfig
from .data.image_data import Shape
from .distillation import Student, load_teacher
from .distribution import Devices
from .finetuning import freeze, initialise
from .loop import build_state
from .optimization import make_loss, make_optimizer
from .progressive import Stage, any_size, make_stages
from .run_folder import RunFolder, Settings


@dataclass(frozen=True)
class Trained:
    """What is trained: a network, the compiled model of its layers, averages of its weights.

    Attributes:
        steps: in an epoch.
        stages: epochs by the size of their images.
        devices: that the model is trained on.
    """

    network: keras.Model
    model: keras.Model
    averages: Averages | None
    steps: int
    stages: list[Stage]
    devices: Devices


def prepare(
    settings: Settings,
    steps: int,
    devices: Devices,
    *,
    representative: Callable[[], np.ndarray],
    initialised: bool = False,
) -> Trained:
    """Builds and compiles all that is trained; `initialised` if it gets its weights anyway.

    Args:
        representative: gives preprocessed images for the ranges of `qat` to start with.

    Raises:
        InputError: settings do not go with each other.
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
        ends = source.input, source.output
        model = (
            keras.Model(*ends, name=network.name)
            if config.teacher is None
            else Student(
                *ends,
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
    return Trained(network, model, averages, steps, stages, devices)


def build_network(settings: Settings, *, initialised: bool = False) -> keras.Model:
    """The network of a run, with its weights to start from, unless it gets others anyway."""
    config = settings.config
    build = partial(create_network, settings)
    keras.utils.set_random_seed(config.seed)
    network = build()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    if config.init is not None and not initialised:
        initialise(network, config.init, build, settings.class_names)
    for name, given in {"init": config.init, "weights": config.model_args.get("weights")}.items():
        if given is not None and not initialised and not are_finite(network.variables):
            raise InputError(f"{name}={given!r} has weights that are not finite.")
    freeze(network, config)
    return network


def create_network(settings: Settings, **changes: Any) -> keras.Model:
    """The network of a run by its builder, with `changes` to the builder's arguments."""
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


def input_shape(config: TrainConfig, image_shape: Shape) -> tuple[int, int, int]:
    """Height, width and channels of the images that a run's network takes.

    Args:
        config: the settings.
        image_shape: of the dataset.

    Raises:
        InputError: a size is below the network's smallest one, or `rho` is not a number.
    """
    height, width, channels = image_shape
    family = find(config.model).family
    for name in ("image_size", "progressive_from"):
        if (given := getattr(config, name)) is not None and given < family.min_size:
            raise InputError(
                f"{name} must be at least {family.min_size} for {config.model}, got {given}."
            )
    if config.image_size:
        size = config.image_size
    elif (rho := config.model_args.get("rho")) is not None:
        size = round(family.size * check_number("rho", rho))
    elif height and width:
        # Multiples of 32, the stride of the networks: with 32 their last stage would see one
        # position, with more than their own size they would cost more than they were made for.
        smallest = max(64, family.min_size)
        size = min(family.size, 32 * -(-max(height, width, smallest) // 32))
    else:
        size = family.size
    if "imagenet" in {config.init, config.model_args.get("weights")}:
        channels = 3
    elif config.init and (folder := RunFolder(local_path(config.init))).settings.is_file():
        channels = folder.read_settings().input_shape[-1]  # gray images may have been repeated
    return size, size, channels


def arithmetic(config: TrainConfig) -> AbstractContextManager[None]:
    """Sets the global precision for a while; and, for good, deterministic operations."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    return precision(config.precision)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets the global dtype policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
