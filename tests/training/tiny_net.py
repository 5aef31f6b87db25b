"""A network for tests of the training around it: a real one takes seconds to trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack
from unittest import mock

import keras
from keras import layers

from keras_archs import registry
from keras_archs.arguments import Shared
from keras_archs.families.common.network import Scaffold
from keras_archs.layers.drop_in.batch_norm import BatchNormalization
from keras_archs.preprocessing import TF
from keras_archs.registry import Family

FAMILY = Family(name="tiny", paper="none", preprocessing=TF)


def TinyNet(*, alpha: float = 1.0, dropout: float = 0.2, **shared: Unpack[Shared]) -> keras.Model:
    """All that makes resuming hard: a convolution, moving statistics, random dropout."""
    scaffold = Scaffold(FAMILY, shared, name="tinynet")
    x = layers.Conv2D(round(16 * alpha), 3, strides=4, use_bias=False, name="conv")(scaffold.inputs)
    x = layers.ReLU(name="relu")(BatchNormalization(name="bn")(x))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    return scaffold.finish(layers.Dropout(dropout, name="dropout")(x))


@contextmanager
def registered() -> Iterator[None]:
    """Lets `TinyNet` be known by its name for a while."""
    with mock.patch.dict(registry._MODELS):
        FAMILY.register(TinyNet)
        yield
