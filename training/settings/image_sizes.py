"""Image sizes for progressive resizing: the sizes grow during training.

Source: Tan and Le 2021, arXiv:2104.00298, section 4 and table 6.
"""

import itertools
from dataclasses import dataclass

from keras_archs.errors import InputError

from .config import TrainConfig

STAGES = 4
MULTIPLE = 32
"""All image sizes are multiples of this number of pixels."""


@dataclass(frozen=True)
class Stage:
    """Consecutive epochs with the same image size.

    Attributes:
        first: first epoch.
        stop: first epoch after the stage.
        image_size: height and width in pixels.
        strength: factor on RandAugment's magnitude, from 1/3 to 1 as in the paper.
    """

    first: int
    stop: int
    image_size: int
    strength: float = 1.0


def make_stages(config: TrainConfig, image_size: int) -> list[Stage]:
    """Returns the stages of a run: four, or fewer if the run has fewer epochs.

    There is a single stage if the image size does not grow.

    Raises:
        InputError: a size is not a multiple of 32, or the first is not below the last.
    """
    smallest = config.progressive_from
    if smallest is None:
        return [Stage(0, config.epochs, image_size)]
    for name, size in (("progressive_from", smallest), ("image_size", image_size)):
        if size % MULTIPLE:
            raise InputError(
                f"{name}={size} must be a multiple of {MULTIPLE} in progressive resizing."
            )
    if smallest >= image_size:
        raise InputError(f"progressive_from={smallest} must be below image_size={image_size}.")
    count = min(STAGES, config.epochs)
    edges = [round(i * config.epochs / count) for i in range(count + 1)]
    stages = []
    for i, (first, stop) in enumerate(itertools.pairwise(edges)):
        share = i / (count - 1) if count > 1 else 1.0
        size = smallest + round(share * (image_size - smallest) / MULTIPLE) * MULTIPLE
        stages.append(Stage(first, stop, size, (1 + 2 * share) / 3))
    return stages
