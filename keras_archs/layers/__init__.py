"""Blocks that any network can take: gates on channels and positions, attention, regularisation.

All take feature maps `(batch, height, width, channels)` of any floating type and work on the
TensorFlow and JAX backends; what a policy in half precision would overflow is computed in float32.
"""

from keras_archs.layers.activation import Activation
from keras_archs.layers.attention import MultiHeadSelfAttention2D
from keras_archs.layers.augmented import AttentionAugmentedConv2D
from keras_archs.layers.batch_norm import BatchNormalization
from keras_archs.layers.cbam import CBAM
from keras_archs.layers.context import GlobalContext
from keras_archs.layers.dense import Dense
from keras_archs.layers.depthwise import DepthwiseConv2D
from keras_archs.layers.eca import ECA
from keras_archs.layers.layer_norm import LayerNormalization
from keras_archs.layers.layer_scale import LayerScale
from keras_archs.layers.local_response import LocalResponseNormalization
from keras_archs.layers.multi_query import MultiQueryAttention2D
from keras_archs.layers.non_local import NonLocalBlock
from keras_archs.layers.squeeze_excite import SqueezeExcite
from keras_archs.layers.stochastic_depth import StochasticDepth

__all__ = [
    "CBAM",
    "ECA",
    "Activation",
    "AttentionAugmentedConv2D",
    "BatchNormalization",
    "Dense",
    "DepthwiseConv2D",
    "GlobalContext",
    "LayerNormalization",
    "LayerScale",
    "LocalResponseNormalization",
    "MultiHeadSelfAttention2D",
    "MultiQueryAttention2D",
    "NonLocalBlock",
    "SqueezeExcite",
    "StochasticDepth",
]
