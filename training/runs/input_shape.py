"""Determines the input shape of a run's network."""

from keras_archs.arguments import check_number
from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.registry import find

from ..data.image_data import Shape
from ..settings.config import TrainConfig
from .run_folder import RunFolder


def input_shape(config: TrainConfig, image_shape: Shape) -> tuple[int, int, int]:
    """Returns height, width and channels of the input of a run's network.

    Args:
        config: the settings.
        image_shape: image shape of the dataset.

    Raises:
        InputError: a size is below the network's minimum, or `rho` is not a number.
    """
    height, width, channels = image_shape
    family = find(config.model).family
    for name in ("image_size", "progressive_from"):
        if (size := getattr(config, name)) is not None and size < family.min_size:
            raise InputError(
                f"{name} must be at least {family.min_size} for {config.model}, got {size}."
            )
    if config.image_size:
        size = config.image_size
    elif (rho := config.model_args.get("rho")) is not None:
        size = round(family.size * check_number("rho", rho))
    elif height and width:
        # Multiples of 32, the stride of the networks. At 32 pixels, the last stage would have a
        # single position. Above its default size, a network costs more than its design intends.
        smallest = max(64, family.min_size)
        size = min(family.size, 32 * -(-max(height, width, smallest) // 32))
    else:
        size = family.size
    if "imagenet" in {config.init, config.model_args.get("weights")}:
        channels = 3
    elif config.init and (folder := RunFolder(local_path(config.init))).settings.is_file():
        channels = folder.read_settings().input_shape[-1]  # that run may have repeated gray images
    return size, size, channels
