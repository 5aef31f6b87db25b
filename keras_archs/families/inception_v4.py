"""InceptionV4: InceptionV3 made uniform, with a stem that branches, too.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
AAAI 2017, figures 3 to 9. The batch norms have a scale, as in timm.
"""

from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared
from ..preprocessing import TF
from ..registry import Family
from .common.inception_blocks import Branches, branch, conv, mixed, reduction, split
from .common.network import Scaffold

FAMILY = Family(
    name="inception_v4",
    paper="Szegedy et al. 2017, arXiv:1602.07261, figures 3 to 9",
    preprocessing=TF,
    min_size=75,
    size=299,
)
preprocess_input = FAMILY.preprocessing

# Figures 4 to 8: A, its reduction, B, its reduction, C.
A: Branches = (
    ((96, 1, 1),),
    ((64, 1, 1), (96, 3, 3)),
    ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
    ((96, 1, 1),),
)
A_REDUCTION: Branches = (((384, 3, 3),), ((192, 1, 1), (224, 3, 3), (256, 3, 3)))
B: Branches = (
    ((384, 1, 1),),
    ((192, 1, 1), (224, 1, 7), (256, 7, 1)),
    ((192, 1, 1), (192, 7, 1), (224, 1, 7), (224, 7, 1), (256, 1, 7)),
    ((128, 1, 1),),
)
B_REDUCTION: Branches = (
    ((192, 1, 1), (192, 3, 3)),
    ((256, 1, 1), (256, 1, 7), (320, 7, 1), (320, 3, 3)),
)
C: Branches = (
    ((256, 1, 1),),
    ((384, 1, 1),),
    ((384, 1, 1), (448, 3, 1), (512, 1, 3)),
    ((256, 1, 1),),
)


@FAMILY.register
def InceptionV4(**shared: Unpack[Shared]) -> keras.Model:
    """InceptionV4. A branched stem and fourteen blocks of three kinds."""
    scaffold = Scaffold(FAMILY, shared, name="inception_v4")
    x = _stem(scaffold.inputs)
    for block in range(1, 5):
        x = mixed(x, A, f"a{block}", scale=True)
    x = reduction(x, A_REDUCTION, "a_reduction", scale=True)
    for block in range(1, 8):
        x = mixed(x, B, f"b{block}", scale=True)
    x = reduction(x, B_REDUCTION, "b_reduction", scale=True)
    for block in range(1, 4):
        x = split(x, C, 256, f"c{block}", scale=True)
    return scaffold.finish(x)


def _stem(x: Any) -> Any:
    """Figure 3."""
    x = conv(x, (32, 3, 3), "stem1", scale=True, stride=2, padding="valid")
    x = conv(x, (32, 3, 3), "stem2", scale=True, padding="valid")
    x = conv(x, (64, 3, 3), "stem3", scale=True)
    pooled = layers.MaxPooling2D(3, strides=2, name="stem4_pool")(x)
    x = conv(x, (96, 3, 3), "stem4", scale=True, stride=2, padding="valid")
    x = layers.Concatenate(name="stem4_concat")([pooled, x])
    maps = []
    for i, convs in enumerate((((64, 1, 1),), ((64, 1, 1), (64, 1, 7), (64, 7, 1))), 1):
        y = branch(x, convs, f"stem5_{i}", scale=True)
        maps.append(conv(y, (96, 3, 3), f"stem5_{i}_last", scale=True, padding="valid"))
    x = layers.Concatenate(name="stem5_concat")(maps)
    return reduction(x, (((192, 3, 3),),), "stem6", scale=True)
