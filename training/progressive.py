"""Images that grow with the epochs (Tan and Le 2021, arXiv:2104.00298, section 4 and table 6)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_archs.errors import InputError
from keras_archs.graph import symbolic

from .config import TrainConfig

STAGES = 4
MULTIPLE = 32


@dataclass(frozen=True)
class Stage:
    """Epochs of one size of images.

    Attributes:
        first: its first epoch.
        stop: the first epoch behind it.
        image_size: height and width in pixels.
        strength: factor on RandAugment's magnitude, from a third to 1 as in the paper.
    """

    first: int
    stop: int
    image_size: int
    strength: float = 1.0


def make_stages(config: TrainConfig, image_size: int) -> list[Stage]:
    """The stages of a run: four, or as many as it has epochs; one if its images do not grow.

    Raises:
        InputError: a size is no multiple of 32, or the first one is not below the last one.
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


def any_size(network: keras.Model, build: Callable[..., keras.Model]) -> keras.Model:
    """A model of the network's own layers that takes images of any size.

    The padding in front of strided layers, which a builder chooses by the size, is the same for all
    multiples of 32.

    Args:
        network: of a fixed size.
        build: makes another such network; takes `input_shape`.

    Raises:
        InputError: weights of the network have shapes that depend on the size.
    """
    shape = (None, None, network.input_shape[-1])
    try:
        with symbolic():
            build(input_shape=shape)
    except InputError as error:
        raise InputError(f"progressive_from does not go with {network.name}: {error}") from error
    inputs = keras.Input(shape, name=network.inputs[0].name)
    return keras.models.clone_model(network, inputs, clone_function=lambda layer: layer)
