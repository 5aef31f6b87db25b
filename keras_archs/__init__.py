"""Image classification networks for Keras 3: builders, discovery, preprocessing, profiles."""

import keras_archs.quiet  # noqa: F401  # isort: skip  # before anything imports TensorFlow
from keras_archs.families import mobilenet, resnet, vgg
from keras_archs.families.mobilenet import MobileNet
from keras_archs.families.resnet import ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from keras_archs.families.vgg import VGG11, VGG13, VGG16, VGG19
from keras_archs.preprocessing import decode_predictions
from keras_archs.profiling import profile
from keras_archs.registry import create_model, list_models, preprocess_input

__version__ = "0.1.0"

__all__ = [
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "MobileNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "create_model",
    "decode_predictions",
    "list_models",
    "mobilenet",
    "preprocess_input",
    "profile",
    "resnet",
    "vgg",
]
