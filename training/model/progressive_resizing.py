"""Progressive resizing: the image size grows during training.

Source: Tan and Le 2021, arXiv:2104.00298, section 4 and table 6.
"""

from collections.abc import Callable

import keras

from keras_archs.errors import InputError
from keras_archs.graph import symbolic


def any_size(network: keras.Model, build: Callable[..., keras.Model]) -> keras.Model:
    """Returns a model of the same layers that takes images of any size.

    A builder chooses the padding before strided layers by the image size. The padding is the same
    for all multiples of 32.

    Args:
        network: network with a fixed image size.
        build: builds the network's architecture with argument `input_shape`.

    Raises:
        InputError: the shapes of some weights depend on the image size.
    """
    shape = (None, None, network.input_shape[-1])
    try:
        with symbolic():
            build(input_shape=shape)
    except InputError as error:
        raise InputError(
            f"progressive_from is not possible with {network.name}: {error}"
        ) from error
    inputs = keras.Input(shape, name=network.inputs[0].name)
    return keras.models.clone_model(network, inputs, clone_function=lambda layer: layer)
