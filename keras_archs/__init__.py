"""Image classification networks for Keras 3: builders, discovery, preprocessing, profiles."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import quiet  # noqa: F401  # isort: skip  # before anything imports TensorFlow
from . import siblings, visualize
from .families import (
    attention_resnet,
    coatnet,
    efficientnet,
    efficientnet_v2,
    inception_resnet_v2,
    inception_v1,
    inception_v2,
    inception_v3,
    inception_v4,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_v4,
    resnet,
    resnet_later,
    resnet_v2,
    vgg,
    wide_resnet,
    xception,
)
from .families.attention_resnet import (
    AAResNet50,
    BoTNet50,
    BoTNet101,
    CBAMResNet50,
    CBAMResNet101,
    ECAResNet50,
    ECAResNet101,
    GCResNet50,
    GCResNet101,
    NonLocalResNet50,
    NonLocalResNet101,
)
from .families.coatnet import (
    CoAtNet0,
    CoAtNet1,
    CoAtNet2,
    CoAtNet3,
    CoAtNet4,
)
from .families.efficientnet import (
    EfficientNet,
    EfficientNetB0,
    EfficientNetB1,
    EfficientNetB2,
    EfficientNetB3,
    EfficientNetB4,
    EfficientNetB5,
    EfficientNetB6,
    EfficientNetB7,
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    EfficientNetLite3,
    EfficientNetLite4,
    compound_scaling,
)
from .families.efficientnet_v2 import (
    EfficientNetV2B0,
    EfficientNetV2B1,
    EfficientNetV2B2,
    EfficientNetV2B3,
    EfficientNetV2L,
    EfficientNetV2M,
    EfficientNetV2S,
    EfficientNetV2XL,
)
from .families.inception_resnet_v2 import (
    InceptionResNetV2,
)
from .families.inception_v1 import (
    InceptionV1,
)
from .families.inception_v2 import (
    InceptionV2,
)
from .families.inception_v3 import (
    InceptionV3,
)
from .families.inception_v4 import (
    InceptionV4,
)
from .families.mobilenet import (
    MobileNet,
)
from .families.mobilenet_v2 import (
    MobileNetV2,
)
from .families.mobilenet_v3 import (
    MobileNetV3Large,
    MobileNetV3Small,
)
from .families.mobilenet_v4 import (
    MobileNetV4ConvLarge,
    MobileNetV4ConvMedium,
    MobileNetV4ConvSmall,
    MobileNetV4HybridLarge,
    MobileNetV4HybridMedium,
)
from .families.resnet import (
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
)
from .families.resnet_later import (
    ResNet18D,
    ResNet34D,
    ResNet50D,
    ResNet101D,
    ResNet152D,
    ResNetRS50,
    ResNetRS101,
    ResNetRS152,
    ResNetRS200,
    ResNetRS270,
    ResNetRS350,
    ResNetRS420,
    ResNeXt50,
    ResNeXt101,
    SEResNet18,
    SEResNet34,
    SEResNet50,
    SEResNet101,
    SEResNet152,
    SEResNeXt50,
    SEResNeXt101,
    WideResNet50,
    WideResNet101,
)
from .families.resnet_v2 import (
    ResNet18V2,
    ResNet34V2,
    ResNet50V2,
    ResNet101V2,
    ResNet152V2,
)
from .families.vgg import (
    VGG11,
    VGG13,
    VGG16,
    VGG19,
)
from .families.wide_resnet import (
    WideResNet16x4,
    WideResNet16x8,
    WideResNet28x10,
    WideResNet40x1,
    WideResNet40x2,
    WideResNet40x4,
)
from .families.xception import (
    Xception,
)
from .features import Feature, feature_extractor, feature_info
from .freezing import freeze
from .fusing import fuse
from .layers import (
    CBAM,
    ECA,
    Activation,
    AttentionAugmentedConv2D,
    BatchNormalization,
    DepthwiseConv2D,
    GlobalContext,
    LayerScale,
    LocalResponseNormalization,
    MultiHeadSelfAttention2D,
    MultiQueryAttention2D,
    NonLocalBlock,
    SqueezeExcite,
    StochasticDepth,
)
from .preprocessing import decode_predictions
from .profiling import profile
from .registry import create_model, list_models, preprocess_input
from .rematerialization import rematerialize
from .surgery import insert

if TYPE_CHECKING:
    import tflite_export as tflite_export
    import training as training

siblings.install()

# Keras walks a graph by recursion when it builds, loads or clones a model; the deepest networks
# (EfficientNetV2XL) have more layers in a row than Python's default of 1000 calls allows.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5000))

__version__ = "0.1.0"

__all__ = [
    "CBAM",
    "ECA",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "AAResNet50",
    "Activation",
    "AttentionAugmentedConv2D",
    "BatchNormalization",
    "BoTNet50",
    "BoTNet101",
    "CBAMResNet50",
    "CBAMResNet101",
    "CoAtNet0",
    "CoAtNet1",
    "CoAtNet2",
    "CoAtNet3",
    "CoAtNet4",
    "DepthwiseConv2D",
    "ECAResNet50",
    "ECAResNet101",
    "EfficientNet",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "EfficientNetV2XL",
    "Feature",
    "GCResNet50",
    "GCResNet101",
    "GlobalContext",
    "InceptionResNetV2",
    "InceptionV1",
    "InceptionV2",
    "InceptionV3",
    "InceptionV4",
    "LayerScale",
    "LocalResponseNormalization",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "MobileNetV4ConvLarge",
    "MobileNetV4ConvMedium",
    "MobileNetV4ConvSmall",
    "MobileNetV4HybridLarge",
    "MobileNetV4HybridMedium",
    "MultiHeadSelfAttention2D",
    "MultiQueryAttention2D",
    "NonLocalBlock",
    "NonLocalResNet50",
    "NonLocalResNet101",
    "ResNeXt50",
    "ResNeXt101",
    "ResNet18",
    "ResNet18D",
    "ResNet18V2",
    "ResNet34",
    "ResNet34D",
    "ResNet34V2",
    "ResNet50",
    "ResNet50D",
    "ResNet50V2",
    "ResNet101",
    "ResNet101D",
    "ResNet101V2",
    "ResNet152",
    "ResNet152D",
    "ResNet152V2",
    "ResNetRS50",
    "ResNetRS101",
    "ResNetRS152",
    "ResNetRS200",
    "ResNetRS270",
    "ResNetRS350",
    "ResNetRS420",
    "SEResNeXt50",
    "SEResNeXt101",
    "SEResNet18",
    "SEResNet34",
    "SEResNet50",
    "SEResNet101",
    "SEResNet152",
    "SqueezeExcite",
    "StochasticDepth",
    "WideResNet16x4",
    "WideResNet16x8",
    "WideResNet28x10",
    "WideResNet40x1",
    "WideResNet40x2",
    "WideResNet40x4",
    "WideResNet50",
    "WideResNet101",
    "Xception",
    "attention_resnet",
    "coatnet",
    "compound_scaling",
    "create_model",
    "decode_predictions",
    "efficientnet",
    "efficientnet_v2",
    "feature_extractor",
    "feature_info",
    "freeze",
    "fuse",
    "inception_resnet_v2",
    "inception_v1",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "insert",
    "list_models",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "mobilenet_v4",
    "preprocess_input",
    "profile",
    "rematerialize",
    "resnet",
    "resnet_later",
    "resnet_v2",
    "vgg",
    "visualize",
    "wide_resnet",
    "xception",
]


def __getattr__(name: str) -> Any:
    if name in siblings.NAMES:  # imported on demand: networks alone need neither
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *siblings.NAMES, *(name for name in globals() if name[:2] == "__")})
