"""Layers for any network: gates on channels and positions, attention, regularisation.

All layers take feature maps `(batch, height, width, channels)` of any floating type, and work on
the TensorFlow and JAX backends. Values that half precision would overflow are computed in float32.
"""

from .attention import MultiHeadSelfAttention2D
from .augmented import AttentionAugmentedConv2D
from .cbam import CBAM
from .context import GlobalContext
from .drop_in.activation import Activation
from .drop_in.batch_norm import BatchNormalization
from .drop_in.dense import Dense
from .drop_in.depthwise import DepthwiseConv2D
from .drop_in.layer_norm import LayerNormalization
from .eca import ECA
from .layer_scale import LayerScale
from .local_response import LocalResponseNormalization
from .multi_query import MultiQueryAttention2D
from .non_local import NonLocalBlock
from .squeeze_excite import SqueezeExcite
from .stochastic_depth import StochasticDepth

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
