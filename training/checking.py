"""Checks of a run's settings before its images are read, which takes minutes for many of them."""

from functools import partial

from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.graph import symbolic
from keras_archs.tflite_export.fake_quantization.model import quantize_aware
from keras_archs.weights import IMAGENET_CLASSES

from .building import build_network, create_network, input_shape, precision
from .config import TrainConfig
from .data.image_data import Shape
from .distillation import load_teacher, names_network
from .distribution import Devices
from .finetuning import layer_rates, read_saved
from .progressive import any_size, make_stages
from .run_folder import Settings


def check_devices(config: TrainConfig, devices: Devices) -> None:
    """Raises an InputError unless the settings go with the devices."""
    devices.check_batch(config.batch_size)
    if config.qat and devices.replicas > 1:
        # Each would move the ranges by its own images.
        raise InputError(
            f"qat=True takes one device, got {devices.replicas} by strategy={config.strategy!r};"
            " give strategy='none' (--strategy none)."
        )


def check_new(config: TrainConfig, class_names: tuple[str, ...] | None, image_shape: Shape) -> None:
    """Raises an InputError for settings that a run cannot begin with.

    Args:
        config: the settings.
        class_names: of the dataset; None if only its images tell them.
        image_shape: of the dataset.
    """
    shape = input_shape(config, image_shape)
    if class_names is None:
        check_parts(Settings(_for_any_classes(config), shape, ("",) * IMAGENET_CLASSES))
    else:
        check_parts(Settings(config, shape, class_names))
    if not config.is_pretrained:
        for name, instead in {"freeze_batch_norm": False, "freeze": None}.items():
            if (value := getattr(config, name)) != instead:
                raise InputError(
                    f"{name}={value!r} keeps random values, since the run has no weights to start"
                    f" from: give init ('imagenet', a run or a file), or {name}={instead!r}."
                )


def check_parts(settings: Settings, *, initialised: bool = False) -> None:
    """Builds what `prepare` will build, without memory for the weights, and so raises its errors.

    Weights to start from and the teacher are read here and again by `prepare`. That takes seconds,
    and no memory holds them while the images are decoded.
    """
    config = settings.config
    make_stages(config, settings.input_shape[0])
    with precision(config.precision), symbolic():
        network = build_network(settings, initialised=initialised)
        layer_rates(network, config.layer_decay)
        if config.qat:
            quantize_aware(network)
        if config.progressive_from is not None:
            any_size(network, partial(create_network, settings))
        if config.teacher is not None:
            load_teacher(config, settings)


def _for_any_classes(config: TrainConfig) -> TrainConfig:
    """The settings without the files that fit one number of classes alone; these must be there."""
    arguments = dict(config.model_args)
    weights = arguments.pop("weights", None)
    if weights == "imagenet":
        return config
    if weights is not None and not local_path(weights).is_file():
        raise InputError(f"weights={weights!r} is not a file.")
    if config.teacher is not None and not names_network(config.teacher):
        read_saved("teacher", config.teacher)
    return config.model_copy(update={"model_args": arguments, "teacher": None})
