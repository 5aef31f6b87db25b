"""The networks that only timm has, with its random weights carried over.

Runs where the extra `parity` is installed (`make parity`).
"""

import pytest

import keras_archs
from tests.keras_archs.helpers import assert_close, images

torch = pytest.importorskip("torch")
# First this one: it declares the operators without which the import of timm fails.
test_torchvision = pytest.importorskip("tests.keras_archs.test_torchvision")
timm = pytest.importorskip("timm")

SIZES = (64, 97)


def random_timm_model(name):
    return test_torchvision.randomize(timm.create_model(name, pretrained=False).eval())


@pytest.mark.parametrize("size", ["0", "3"])
def test_efficientnet_lite(size):
    theirs = random_timm_model(f"tf_efficientnet_lite{size}")
    ours = getattr(keras_archs, f"EfficientNetLite{size}")(
        input_shape=(None, None, 3), classifier_activation=None
    )
    kinds = torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear
    modules = [module for module in theirs.modules() if isinstance(module, kinds)]
    layers = [layer for layer in ours.layers if layer.weights]
    for layer, module in zip(layers, modules, strict=True):
        layer.set_weights(
            [
                weight.reshape(variable.shape)
                for weight, variable in zip(
                    test_torchvision.weights_of(module), layer.weights, strict=True
                )
            ]
        )
    for side in SIZES:
        x = images(side)
        assert_close(ours(x).numpy(), test_torchvision.outputs(theirs, x), 1e-4)


def resnet_v2_module(name):
    """timm's name of our layer: conv3_block1_0_conv is stages.1.blocks.0.downsample.conv."""
    fixed = {"conv1_conv": "stem.conv", "post_bn": "norm", "predictions": "head.fc"}
    if name in fixed:
        return fixed[name]
    stage, block, part, kind = name.split("_")
    prefix = f"stages.{int(stage[4:]) - 2}.blocks.{int(block[5:]) - 1}"
    parts = {
        ("preact", "bn"): "norm1",
        ("0", "conv"): "downsample.conv",
        ("1", "conv"): "conv1",
        ("1", "bn"): "norm2",
        ("2", "conv"): "conv2",
    }
    return f"{prefix}.{parts[part, kind]}"


@pytest.mark.parametrize("depth", [18, 34])
def test_resnet_v2(depth):
    theirs = random_timm_model(f"resnetv2_{depth}")
    # Like keras.applications' ResNetV2 ours pads with zeros before the pooling, timm's with -inf.
    theirs.stem.pool = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.MaxPool2d(3, 2))
    ours = getattr(keras_archs, f"ResNet{depth}V2")(
        input_shape=(None, None, 3), classifier_activation=None
    )
    for layer in ours.layers:
        if layer.weights:
            weights = test_torchvision.weights_of(
                theirs.get_submodule(resnet_v2_module(layer.name))
            )
            layer.set_weights(
                [w.reshape(v.shape) for w, v in zip(weights, layer.weights, strict=True)]
            )
    for side in SIZES:
        x = images(side)
        assert_close(ours(x).numpy(), test_torchvision.outputs(theirs, x), 1e-4)
    assert sum(w.numpy().size for w in ours.trainable_weights) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )
