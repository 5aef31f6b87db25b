"""Blocks that any network can take: gates on channels and positions, attention, regularisation.

All take feature maps `(batch, height, width, channels)` of any floating type and work on the
TensorFlow and JAX backends; what a policy in half precision would overflow is computed in float32.
"""

from .activation import Activation
from .attention import MultiHeadSelfAttention2D
from .augmented import AttentionAugmentedConv2D
from .batch_norm import BatchNormalization
from .cbam import CBAM
from .context import GlobalContext
from .dense import Dense
from .depthwise import DepthwiseConv2D
from .eca import ECA
from .layer_norm import LayerNormalization
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
