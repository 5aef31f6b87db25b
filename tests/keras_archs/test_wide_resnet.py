"""Wide ResNets compute table 1 of their paper, written out here by TensorFlow's operations."""

import numpy as np
import tensorflow as tf

import keras_archs
from tests.keras_archs.helpers import assert_close, images, randomize


def test_the_16_layers_are_those_of_table_1():
    """A strided convolution pads both sides, as the authors' code in Torch does."""
    model = keras_archs.WideResNet16x4(
        input_shape=(None, None, 3), classes=10, classifier_activation=None
    )
    randomize(model)
    weights = {weight.path: weight.numpy() for weight in model.weights}

    def conv(x, name, stride=1):
        kernel = weights[f"{name}_conv/kernel"]
        side = kernel.shape[0] // 2
        pads = [[0, 0], [side, side], [side, side], [0, 0]]
        return tf.nn.conv2d(x, kernel, stride, padding=pads)

    def bn_relu(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{kind}"]
            for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.relu((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta)

    for side in (32, 28, 45):
        image = images(side)
        x = conv(image, "conv1")
        for stage, width in ((2, 64), (3, 128), (4, 256)):
            for block in (1, 2):
                name, stride = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
                preact = bn_relu(x, f"{name}_preact")
                branch = conv(bn_relu(conv(preact, f"{name}_1", stride), f"{name}_1"), f"{name}_2")
                x = branch + (conv(preact, f"{name}_0", stride) if block == 1 else x)
                assert x.shape[-1] == width
        assert x.shape[1] == -(-side // 4)
        pooled = tf.reduce_mean(bn_relu(x, "post"), [1, 2])
        expected = pooled @ weights["predictions/kernel"] + weights["predictions/bias"]
        assert_close(np.asarray(model(image)), expected.numpy(), 1e-4)


def test_dropout_stands_between_the_convolutions_of_every_block():
    model = keras_archs.WideResNet16x4(dropout_rate=0.3, classes=10)
    dropouts = [layer for layer in model.layers if layer.name.endswith("_dropout")]
    assert len(dropouts) == 6
    for dropout in dropouts:
        block = dropout.name.removesuffix("_dropout")
        assert dropout.rate == 0.3
        assert dropout.input is model.get_layer(f"{block}_1_relu").output
        assert model.get_layer(f"{block}_2_conv").input is dropout.output
