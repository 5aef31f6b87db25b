"""Image classification networks for Keras 3: builders, discovery, preprocessing, profiles."""

import sys

import keras_archs.quiet  # noqa: F401  # isort: skip  # before anything imports TensorFlow
from keras_archs.families import (
    efficientnet,
    efficientnet_v2,
    inception_v3,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    resnet_v2,
    vgg,
    xception,
)
from keras_archs.families.efficientnet import (
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
from keras_archs.families.efficientnet_v2 import (
    EfficientNetV2B0,
    EfficientNetV2B1,
    EfficientNetV2B2,
    EfficientNetV2B3,
    EfficientNetV2L,
    EfficientNetV2M,
    EfficientNetV2S,
    EfficientNetV2XL,
)
from keras_archs.families.inception_v3 import InceptionV3
from keras_archs.families.mobilenet import MobileNet
from keras_archs.families.mobilenet_v2 import MobileNetV2
from keras_archs.families.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from keras_archs.families.resnet import ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from keras_archs.families.resnet_v2 import (
    ResNet18V2,
    ResNet34V2,
    ResNet50V2,
    ResNet101V2,
    ResNet152V2,
)
from keras_archs.families.vgg import VGG11, VGG13, VGG16, VGG19
from keras_archs.families.xception import Xception
from keras_archs.layers import (
    CBAM,
    ECA,
    AttentionAugmentedConv2D,
    GlobalContext,
    MultiHeadSelfAttention2D,
    NonLocalBlock,
    SqueezeExcite,
    StochasticDepth,
)
from keras_archs.preprocessing import decode_predictions
from keras_archs.profiling import profile
from keras_archs.registry import create_model, list_models, preprocess_input

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
    "AttentionAugmentedConv2D",
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
    "GlobalContext",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "MultiHeadSelfAttention2D",
    "NonLocalBlock",
    "ResNet18",
    "ResNet18V2",
    "ResNet34",
    "ResNet34V2",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "SqueezeExcite",
    "StochasticDepth",
    "Xception",
    "compound_scaling",
    "create_model",
    "decode_predictions",
    "efficientnet",
    "efficientnet_v2",
    "inception_v3",
    "list_models",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "preprocess_input",
    "profile",
    "resnet",
    "resnet_v2",
    "vgg",
    "xception",
]
