"""InceptionV3: parallel kernels, large ones taken apart into 1x7 and 7x1.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, table 1 and
figures 5 to 7 and 10. Each block looks at its input through several kernels at once; 1x1
convolutions before them keep the cost down.
"""

from typing import Unpack

import keras

from ..arguments import Shared
from ..preprocessing import TF
from ..registry import Family
from .common.inception_blocks import Branches, mixed, reduction, split, stem
from .common.network import Scaffold
from .common.weights import ImageNet

FAMILY = Family(
    name="inception_v3",
    paper="Szegedy et al. 2016, arXiv:1512.00567, table 1",
    preprocessing=TF,
    min_size=75,
    size=299,
)
preprocess_input = FAMILY.preprocessing

IMAGENET = ImageNet.tf_kernels(
    "inception_v3/inception_v3",
    "9a0d58056eeedaa3f26cb7ebd46da564",
    "bcbd6486424b2319ff4ef7d526e38f63",
)


def _wide(pooled: int) -> Branches:
    """Figure 5. The last branch comes after the pooling, here and below."""
    return (
        ((64, 1, 1),),
        ((48, 1, 1), (64, 5, 5)),
        ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
        ((pooled, 1, 1),),
    )


def _factorised(inner: int) -> Branches:
    """Figure 6 with n = 7."""
    return (
        ((192, 1, 1),),
        ((inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        ((inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        ((192, 1, 1),),
    )


# Figure 10: the last convolution of each branch and the pooling halve the map.
FIRST_REDUCTION: Branches = (((384, 3, 3),), ((64, 1, 1), (96, 3, 3), (96, 3, 3)))
SECOND_REDUCTION: Branches = (
    ((192, 1, 1), (320, 3, 3)),
    ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
)

# Figure 7: the forked branches end in 1x3 and 3x1 convolutions.
SPLIT: Branches = (
    ((320, 1, 1),),
    ((384, 1, 1),),
    ((448, 1, 1), (384, 3, 3)),
    ((192, 1, 1),),
)


@FAMILY.register
def InceptionV3(**shared: Unpack[Shared]) -> keras.Model:
    """InceptionV3. Eleven blocks of parallel convolutions."""
    scaffold = Scaffold(FAMILY, shared, name="inception_v3", published=IMAGENET)
    x = stem(scaffold.inputs)
    for block, pooled in enumerate((32, 64, 64)):
        x = mixed(x, _wide(pooled), f"mixed{block}")
    x = reduction(x, FIRST_REDUCTION, "mixed3")
    for block, inner in enumerate((128, 160, 160, 192), 4):
        x = mixed(x, _factorised(inner), f"mixed{block}")
    x = reduction(x, SECOND_REDUCTION, "mixed8")
    for block in (9, 10):
        x = split(x, SPLIT, 384, f"mixed{block}")
    return scaffold.finish(x)
