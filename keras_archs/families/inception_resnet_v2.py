"""Inception-ResNetV2: Inception blocks as residual branches.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
AAAI 2017, figures 15 to 18, in the form of the authors' code, which keras.applications has as well.
The branches are scaled down before they are added: without, the wide ones die while training.
"""

from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared
from ..preprocessing import TF
from ..registry import Family
from .common.inception_blocks import Branches, branch, conv, mixed, reduction, stem
from .common.network import Scaffold
from .common.weights import ImageNet

FAMILY = Family(
    name="inception_resnet_v2",
    paper="Szegedy et al. 2017, arXiv:1602.07261, figures 15 to 18",
    preprocessing=TF,
    min_size=75,
    size=299,
)
preprocess_input = FAMILY.preprocessing

IMAGENET = ImageNet.tf_kernels(
    "inception_resnet_v2/inception_resnet_v2",
    "e693bd0210a403b3192acc6073ad2e96",
    "d19885ff4a710c122648d3b5c3b684e4",
)

FIRST: Branches = (
    ((96, 1, 1),),
    ((48, 1, 1), (64, 5, 5)),
    ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
    ((64, 1, 1),),
)
BLOCK_35: Branches = (
    ((32, 1, 1),),
    ((32, 1, 1), (32, 3, 3)),
    ((32, 1, 1), (48, 3, 3), (64, 3, 3)),
)
REDUCTION_35: Branches = (((384, 3, 3),), ((256, 1, 1), (256, 3, 3), (384, 3, 3)))
BLOCK_17: Branches = (((192, 1, 1),), ((128, 1, 1), (160, 1, 7), (192, 7, 1)))
REDUCTION_17: Branches = (
    ((256, 1, 1), (384, 3, 3)),
    ((256, 1, 1), (288, 3, 3)),
    ((256, 1, 1), (288, 3, 3), (320, 3, 3)),
)
BLOCK_8: Branches = (((192, 1, 1),), ((192, 1, 1), (224, 1, 3), (256, 3, 1)))


@FAMILY.register
def InceptionResNetV2(**shared: Unpack[Shared]) -> keras.Model:
    """InceptionResNetV2. Forty residual Inception blocks of three kinds."""
    scaffold = Scaffold(FAMILY, shared, name="inception_resnet_v2", published=IMAGENET)
    x = stem(scaffold.inputs)
    x = mixed(x, FIRST, "mixed_5b")
    for block in range(1, 11):
        x = _residual(x, BLOCK_35, 0.17, f"block35_{block}")
    x = reduction(x, REDUCTION_35, "mixed_6a")
    for block in range(1, 21):
        x = _residual(x, BLOCK_17, 0.1, f"block17_{block}")
    x = reduction(x, REDUCTION_17, "mixed_7a")
    for block in range(1, 10):
        x = _residual(x, BLOCK_8, 0.2, f"block8_{block}")
    x = _residual(x, BLOCK_8, 1.0, "block8_10", activate=False)
    x = conv(x, (1536, 1, 1), "conv_7b", padding="valid", names=("{}", "{}_bn", "{}_ac"))
    return scaffold.finish(x)


def _residual(x: Any, branches: Branches, scale: float, name: str, activate: bool = True) -> Any:
    maps = [branch(x, convs, f"{name}_{i}") for i, convs in enumerate(branches, 1)]
    change = layers.Concatenate(name=f"{name}_mixed")(maps)
    change = layers.Conv2D(x.shape[-1], 1, name=f"{name}_conv")(change)
    change = layers.Rescaling(scale, name=f"{name}_scale")(change)
    x = layers.Add(name=f"{name}_add")([x, change])
    return layers.ReLU(name=f"{name}_ac")(x) if activate else x
