"""Checks a run's settings before its images are read, which can take minutes."""

from functools import partial

from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.graph import symbolic
from keras_archs.preprocessing import IMAGENET_CLASSES
from keras_archs.transforms.quantization.quantize_aware import quantize_aware

from ..data.image_data import Shape
from ..distributed.devices import Devices
from ..runs.input_shape import input_shape
from ..runs.run_folder import Settings
from ..settings.config import TrainConfig
from ..settings.image_sizes import make_stages
from .build import build_network, create_network, precision
from .distillation import load_teacher, names_network
from .finetuning import layer_rates, read_saved
from .progressive_resizing import any_size


def check_devices(config: TrainConfig, devices: Devices) -> None:
    """Raises an InputError unless the devices support the settings."""
    devices.check_batch(config.batch_size)
    if config.qat and devices.replicas > 1:
        # Each device would update the ranges with its own images.
        raise InputError(
            f"qat=True needs a single device, got {devices.replicas} devices by"
            f" strategy={config.strategy!r}; give strategy='none' (--strategy none)."
        )


def check_new_run(
    config: TrainConfig, class_names: tuple[str, ...] | None, image_shape: Shape
) -> None:
    """Raises an InputError if a run cannot start with these settings.

    Args:
        config: the settings.
        class_names: class names of the dataset, or None before its images are read.
        image_shape: image shape of the dataset.
    """
    shape = input_shape(config, image_shape)
    if class_names is None:
        check_by_building(Settings(_for_any_classes(config), shape, ("",) * IMAGENET_CLASSES))
    else:
        check_by_building(Settings(config, shape, class_names))
    if not config.is_pretrained:
        for name, default in {"freeze_batch_norm": False, "freeze": None}.items():
            if (value := getattr(config, name)) != default:
                raise InputError(
                    f"{name}={value!r} needs initial weights, because it would keep random weights"
                    " unchanged. Pass init: 'imagenet', a run folder, a .keras file or a weights"
                    f" file. Or pass {name}={default!r}."
                )


def check_by_building(settings: Settings, *, initialised: bool = False) -> None:
    """Raises the errors of `build_training_model` early, by building without memory for weights.

    Initial weights and the teacher are read here and again in `build_training_model`. This takes
    seconds, and keeps them out of memory while the images are decoded.
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
    """The settings without files that need a known number of classes. Checks that these exist."""
    arguments = dict(config.model_args)
    weights = arguments.pop("weights", None)
    if weights == "imagenet":
        return config
    if weights is not None and not local_path(weights).is_file():
        raise InputError(f"weights={weights!r} is not a file.")
    if config.teacher is not None and not names_network(config.teacher):
        read_saved("teacher", config.teacher)
    return config.model_copy(update={"model_args": arguments, "teacher": None})
