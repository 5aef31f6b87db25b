"""Image classification networks for Keras 3: builders, discovery, preprocessing, profiles.

A name that is imported `as` itself is public, for Python, editors and type checkers.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .display import quiet as _quiet  # noqa: F401  # isort: skip  # before anything imports TensorFlow
import keras

from . import siblings
from .analysis import visualize as visualize
from .analysis.features import Feature as Feature
from .analysis.features import feature_extractor as feature_extractor
from .analysis.features import feature_info as feature_info
from .analysis.profile import profile as profile
from .families import attention_resnet as attention_resnet
from .families import coatnet as coatnet
from .families import efficientnet as efficientnet
from .families import efficientnet_v2 as efficientnet_v2
from .families import inception_resnet_v2 as inception_resnet_v2
from .families import inception_v1 as inception_v1
from .families import inception_v2 as inception_v2
from .families import inception_v3 as inception_v3
from .families import inception_v4 as inception_v4
from .families import mobilenet as mobilenet
from .families import mobilenet_v2 as mobilenet_v2
from .families import mobilenet_v3 as mobilenet_v3
from .families import mobilenet_v4 as mobilenet_v4
from .families import resnet as resnet
from .families import resnet_v2 as resnet_v2
from .families import resnet_variants as resnet_later  # noqa: F401  # its former name
from .families import resnet_variants as resnet_variants
from .families import vgg as vgg
from .families import wide_resnet as wide_resnet
from .families import xception as xception
from .families.attention_resnet import AAResNet50 as AAResNet50
from .families.attention_resnet import BoTNet50 as BoTNet50
from .families.attention_resnet import BoTNet101 as BoTNet101
from .families.attention_resnet import CBAMResNet50 as CBAMResNet50
from .families.attention_resnet import CBAMResNet101 as CBAMResNet101
from .families.attention_resnet import ECAResNet50 as ECAResNet50
from .families.attention_resnet import ECAResNet101 as ECAResNet101
from .families.attention_resnet import GCResNet50 as GCResNet50
from .families.attention_resnet import GCResNet101 as GCResNet101
from .families.attention_resnet import NonLocalResNet50 as NonLocalResNet50
from .families.attention_resnet import NonLocalResNet101 as NonLocalResNet101
from .families.coatnet import CoAtNet0 as CoAtNet0
from .families.coatnet import CoAtNet1 as CoAtNet1
from .families.coatnet import CoAtNet2 as CoAtNet2
from .families.coatnet import CoAtNet3 as CoAtNet3
from .families.coatnet import CoAtNet4 as CoAtNet4
from .families.compound_scaling import compound_scaling as compound_scaling
from .families.efficientnet import EfficientNet as EfficientNet
from .families.efficientnet import EfficientNetB0 as EfficientNetB0
from .families.efficientnet import EfficientNetB1 as EfficientNetB1
from .families.efficientnet import EfficientNetB2 as EfficientNetB2
from .families.efficientnet import EfficientNetB3 as EfficientNetB3
from .families.efficientnet import EfficientNetB4 as EfficientNetB4
from .families.efficientnet import EfficientNetB5 as EfficientNetB5
from .families.efficientnet import EfficientNetB6 as EfficientNetB6
from .families.efficientnet import EfficientNetB7 as EfficientNetB7
from .families.efficientnet import EfficientNetLite0 as EfficientNetLite0
from .families.efficientnet import EfficientNetLite1 as EfficientNetLite1
from .families.efficientnet import EfficientNetLite2 as EfficientNetLite2
from .families.efficientnet import EfficientNetLite3 as EfficientNetLite3
from .families.efficientnet import EfficientNetLite4 as EfficientNetLite4
from .families.efficientnet_v2 import EfficientNetV2B0 as EfficientNetV2B0
from .families.efficientnet_v2 import EfficientNetV2B1 as EfficientNetV2B1
from .families.efficientnet_v2 import EfficientNetV2B2 as EfficientNetV2B2
from .families.efficientnet_v2 import EfficientNetV2B3 as EfficientNetV2B3
from .families.efficientnet_v2 import EfficientNetV2L as EfficientNetV2L
from .families.efficientnet_v2 import EfficientNetV2M as EfficientNetV2M
from .families.efficientnet_v2 import EfficientNetV2S as EfficientNetV2S
from .families.efficientnet_v2 import EfficientNetV2XL as EfficientNetV2XL
from .families.inception_resnet_v2 import InceptionResNetV2 as InceptionResNetV2
from .families.inception_v1 import InceptionV1 as InceptionV1
from .families.inception_v2 import InceptionV2 as InceptionV2
from .families.inception_v3 import InceptionV3 as InceptionV3
from .families.inception_v4 import InceptionV4 as InceptionV4
from .families.mobilenet import MobileNet as MobileNet
from .families.mobilenet_v2 import MobileNetV2 as MobileNetV2
from .families.mobilenet_v3 import MobileNetV3Large as MobileNetV3Large
from .families.mobilenet_v3 import MobileNetV3Small as MobileNetV3Small
from .families.mobilenet_v4 import MobileNetV4ConvLarge as MobileNetV4ConvLarge
from .families.mobilenet_v4 import MobileNetV4ConvMedium as MobileNetV4ConvMedium
from .families.mobilenet_v4 import MobileNetV4ConvSmall as MobileNetV4ConvSmall
from .families.mobilenet_v4 import MobileNetV4HybridLarge as MobileNetV4HybridLarge
from .families.mobilenet_v4 import MobileNetV4HybridMedium as MobileNetV4HybridMedium
from .families.resnet import ResNet18 as ResNet18
from .families.resnet import ResNet34 as ResNet34
from .families.resnet import ResNet50 as ResNet50
from .families.resnet import ResNet101 as ResNet101
from .families.resnet import ResNet152 as ResNet152
from .families.resnet_v2 import ResNet18V2 as ResNet18V2
from .families.resnet_v2 import ResNet34V2 as ResNet34V2
from .families.resnet_v2 import ResNet50V2 as ResNet50V2
from .families.resnet_v2 import ResNet101V2 as ResNet101V2
from .families.resnet_v2 import ResNet152V2 as ResNet152V2
from .families.resnet_variants import ResNet18D as ResNet18D
from .families.resnet_variants import ResNet34D as ResNet34D
from .families.resnet_variants import ResNet50D as ResNet50D
from .families.resnet_variants import ResNet101D as ResNet101D
from .families.resnet_variants import ResNet152D as ResNet152D
from .families.resnet_variants import ResNetRS50 as ResNetRS50
from .families.resnet_variants import ResNetRS101 as ResNetRS101
from .families.resnet_variants import ResNetRS152 as ResNetRS152
from .families.resnet_variants import ResNetRS200 as ResNetRS200
from .families.resnet_variants import ResNetRS270 as ResNetRS270
from .families.resnet_variants import ResNetRS350 as ResNetRS350
from .families.resnet_variants import ResNetRS420 as ResNetRS420
from .families.resnet_variants import ResNeXt50 as ResNeXt50
from .families.resnet_variants import ResNeXt101 as ResNeXt101
from .families.resnet_variants import SEResNet18 as SEResNet18
from .families.resnet_variants import SEResNet34 as SEResNet34
from .families.resnet_variants import SEResNet50 as SEResNet50
from .families.resnet_variants import SEResNet101 as SEResNet101
from .families.resnet_variants import SEResNet152 as SEResNet152
from .families.resnet_variants import SEResNeXt50 as SEResNeXt50
from .families.resnet_variants import SEResNeXt101 as SEResNeXt101
from .families.resnet_variants import WideResNet50 as WideResNet50
from .families.resnet_variants import WideResNet101 as WideResNet101
from .families.vgg import VGG11 as VGG11
from .families.vgg import VGG13 as VGG13
from .families.vgg import VGG16 as VGG16
from .families.vgg import VGG19 as VGG19
from .families.wide_resnet import WideResNet16x4 as WideResNet16x4
from .families.wide_resnet import WideResNet16x8 as WideResNet16x8
from .families.wide_resnet import WideResNet28x10 as WideResNet28x10
from .families.wide_resnet import WideResNet40x1 as WideResNet40x1
from .families.wide_resnet import WideResNet40x2 as WideResNet40x2
from .families.wide_resnet import WideResNet40x4 as WideResNet40x4
from .families.xception import Xception as Xception
from .layers import CBAM as CBAM
from .layers import ECA as ECA
from .layers import Activation as Activation
from .layers import AttentionAugmentedConv2D as AttentionAugmentedConv2D
from .layers import BatchNormalization as BatchNormalization
from .layers import DepthwiseConv2D as DepthwiseConv2D
from .layers import GlobalContext as GlobalContext
from .layers import LayerScale as LayerScale
from .layers import LocalResponseNormalization as LocalResponseNormalization
from .layers import MultiHeadSelfAttention2D as MultiHeadSelfAttention2D
from .layers import MultiQueryAttention2D as MultiQueryAttention2D
from .layers import NonLocalBlock as NonLocalBlock
from .layers import SqueezeExcite as SqueezeExcite
from .layers import StochasticDepth as StochasticDepth
from .preprocessing import decode_predictions as decode_predictions
from .registry import create_model as create_model
from .registry import list_models as list_models
from .registry import preprocess_input as preprocess_input
from .transforms.freeze import freeze as freeze
from .transforms.fuse import fuse as fuse
from .transforms.insert import insert as insert
from .transforms.rematerialize import rematerialize as rematerialize

siblings.install()

if keras.config.backend() == "tensorflow":
    # Keras loads a quantisation-aware model only after its layers are registered.
    from .transforms import quantization as _quantization  # noqa: F401

# Keras walks a graph by recursion when it builds, loads or clones a model; the deepest networks
# (EfficientNetV2XL) have more layers in a row than Python's default of 1000 calls allows.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5000))

__version__ = "0.1.0"


def _is_public(name: str, value: Any) -> bool:
    """Whether a name is one of the modules, classes and functions inside the folders here."""
    home = str(getattr(value, "__module__", getattr(value, "__name__", "")))
    return name[0] != "_" and home.startswith(f"{__name__}.") and home != f"{__name__}.{name}"


if not TYPE_CHECKING:  # type checkers read the imports above, but not what is computed
    __all__ = sorted(name for name, value in globals().items() if _is_public(name, value))  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in siblings.NAMES:  # imported on demand: networks alone need neither
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    public = (name for name, value in globals().items() if _is_public(name, value))
    return sorted({*public, *siblings.NAMES, *(name for name in globals() if name[:2] == "__")})
