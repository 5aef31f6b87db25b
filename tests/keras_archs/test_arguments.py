"""What arguments may be: NumPy's numbers as well as Python's, and nothing of another type."""

import inspect
import json
import re
from fractions import Fraction
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_archs
from keras_archs import layers
from keras_archs.errors import InputError
from keras_archs.graph import symbolic
from keras_archs.layers.block import Block
from keras_archs.preprocessing import PreprocessInput
from keras_archs.registry import find

FLAGS = {
    *("include_top", "include_preprocessing", "batch_norm", "auxiliary", "minimalistic"),
    "sub_sample",
}
FACTORS = {"alpha", "width_coefficient", "depth_coefficient"}
OPTIONAL = {
    *("weights", "input_tensor", "input_shape", "pooling", "classifier_activation", "name"),
    *("attention", "dropout_rate", "rho"),
}
# A sample of what is not what an argument should be, and the arguments that take it all the same.
VALUES = {
    "None": (None, OPTIONAL),
    "text": ("x", {"name"}),
    "fraction": (3.5, FACTORS),
    "whole float": (10.0, FACTORS),
    "negative": (-1, set()),
    "object": (object(), set()),
    "list": ([], set()),
    "dict": ({}, {"attention"}),
    "nan": (float("nan"), set()),
    "infinity": (float("inf"), set()),
    "boolean": (True, FLAGS),
    "array": (np.zeros((20, 2)), set()),
    "array of text": (np.array("x"), set()),
    "array of truth": (np.array(True), FLAGS),
    "function": (round, {"classifier_activation"}),
}


class Accepted(Exception):  # noqa: N818  # it is not an error
    """The builder has checked its arguments and begins to build."""


def arguments_of(function):
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    ]


def assert_named(error, argument):
    assert re.search(rf"\b{argument}\b", str(error)), error
    assert "\n" not in str(error)


@pytest.mark.parametrize(("value", "taken"), VALUES.values(), ids=VALUES)
def test_builders_check_every_argument_before_they_build(value, taken):
    accepted = set()
    with mock.patch("keras.Input", side_effect=Accepted):
        for name in keras_archs.list_models():
            for argument in arguments_of(find(name).builder):
                try:
                    keras_archs.create_model(name, **{argument: value})
                except Accepted:
                    accepted.add(argument)
                except InputError as error:
                    assert_named(error, argument)
    assert accepted == taken


BLOCKS = [
    *(layers.AttentionAugmentedConv2D, layers.CBAM, layers.ECA, layers.GlobalContext),
    *(layers.LayerScale, layers.LocalResponseNormalization, layers.MultiHeadSelfAttention2D),
    *(layers.MultiQueryAttention2D, layers.NonLocalBlock, layers.SqueezeExcite),
    layers.StochasticDepth,
]
NEEDED = {layers.AttentionAugmentedConv2D: {"filters": 80}, layers.StochasticDepth: {"rate": 0.5}}


@pytest.mark.parametrize("value", [value for value, _ in VALUES.values()], ids=VALUES)
def test_blocks_check_every_argument(value):
    for block in BLOCKS:
        of_all = ["frozen"] if issubclass(block, Block) else []
        for argument in arguments_of(block) + of_all:
            try:
                layer = block(**{**NEEDED.get(block, {}), argument: value})
            except InputError as error:
                assert_named(error, argument)
            else:
                json.dumps(layer.get_config())


NUMBERS = [
    ("mobilenet", {"alpha": 0.5, "depth_multiplier": 2, "dropout": 0.25, "rho": 1}),
    ("mobilenet", {"rho": 0.857, "classes": 7}),
    ("mobilenetv2", {"alpha": 0.35, "input_shape": (96, 64, 3), "classes": 10}),
    ("mobilenetv3small", {"alpha": 0.75, "minimalistic": True, "dropout_rate": 0.1}),
    ("mobilenetv4convsmall", {"dropout_rate": 0.1, "drop_connect_rate": 0.2}),
    ("efficientnet", {"width_coefficient": 0.5, "depth_coefficient": 1, "resolution": 96}),
    ("efficientnetb0", {"dropout_rate": 0.1, "drop_connect_rate": 0.3}),
    ("efficientnetv2b0", {"dropout_rate": 0.1, "drop_connect_rate": 0.3}),
    ("inceptionv1", {"large_kernel": 3, "batch_norm": True, "dropout_rate": 0.3}),
    ("nonlocalresnet50", {"blocks": 1, "sub_sample": False, "drop_connect_rate": 0.1}),
    ("botnet50", {"last_stride": 1, "num_heads": 8}),
    ("aaresnet50", {"kappa": 0.3, "nu": 0.2, "num_heads": 4}),
    ("vgg11", {"batch_norm": True, "dropout": 0.1, "include_top": False}),
    ("resnetrs50", {"dropout_rate": 0.1, "drop_connect_rate": 0.2}),
    ("wideresnet16x4", {"dropout_rate": 0.1, "drop_connect_rate": 0.2}),
    ("resnet18", {"attention": {4: "se"}, "include_preprocessing": True}),
    ("coatnet0", {"drop_connect_rate": 0.2, "input_shape": (64, 64, 1)}),
]
NUMPY = {
    "scalars": {bool: np.bool_, int: np.int64, float: np.float64},
    "small scalars": {bool: np.bool_, int: np.uint8, float: np.float32},
    "arrays": dict.fromkeys((bool, int, float), np.array),
}


def as_numpy(value, kinds):
    if isinstance(value, tuple):
        return tuple(as_numpy(each, kinds) for each in value)
    if isinstance(value, dict):  # no array is a key
        return {np.int32(level): block for level, block in value.items()}
    return kinds.get(type(value), lambda same: same)(value)


@pytest.mark.full
@pytest.mark.parametrize("kinds", NUMPY.values(), ids=NUMPY)
@pytest.mark.parametrize(("name", "arguments"), NUMBERS)
def test_numbers_of_numpy_build_the_network_of_pythons(name, arguments, kinds):
    given = {argument: as_numpy(value, kinds) for argument, value in arguments.items()}
    with symbolic():
        theirs, pythons = (keras_archs.create_model(name, **each) for each in (given, arguments))
    assert theirs.to_json() == pythons.to_json()
    assert theirs.name == pythons.name


@pytest.mark.parametrize("kinds", NUMPY.values(), ids=NUMPY)
@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        (layers.AttentionAugmentedConv2D, {"filters": 80, "kernel_size": 5, "strides": 2}),
        (layers.AttentionAugmentedConv2D, {"filters": 80, "kappa": 0.25, "nu": 0.2, "pool": True}),
        (layers.CBAM, {"squeeze_ratio": 0.25, "kernel_size": 3}),
        (layers.ECA, {"kernel_size": 3}),
        (layers.LayerScale, {"initial": 0.1}),
        (layers.LocalResponseNormalization, {"size": 3, "alpha": 0.1, "beta": 1}),
        (layers.MultiHeadSelfAttention2D, {"num_heads": 2, "key_dim": 8, "dropout": 0.1}),
        (layers.MultiHeadSelfAttention2D, {"value_dim": 8, "output_dim": 8, "use_bias": True}),
        (layers.MultiQueryAttention2D, {"num_heads": 2, "key_dim": 8, "kv_strides": 2}),
        (layers.NonLocalBlock, {"inner_channels": 8, "sub_sample": False, "use_scale": True}),
        (layers.SqueezeExcite, {"squeezed_channels": 4}),
        (layers.StochasticDepth, {"rate": 0.1, "seed": 3}),
    ],
)
def test_numbers_of_numpy_make_the_block_of_pythons(block, arguments, kinds):
    given = {argument: as_numpy(value, kinds) for argument, value in arguments.items()}
    theirs, pythons = (block(name="block", **each) for each in (given, arguments))
    assert json.dumps(theirs.get_config()) == json.dumps(pythons.get_config())
    theirs.build((None, 8, 8, 32))


def test_numbers_of_numpy_in_the_layer_of_preprocessing():
    theirs, pythons = (
        PreprocessInput(mean, scale, bgr=True)
        for mean, scale in ((np.array([1.0, 2, 3]), np.float32(0.5)), ([1, 2, 3], 0.5))
    )
    assert json.dumps(theirs.get_config()) == json.dumps(pythons.get_config())


def test_other_numbers_count():
    with symbolic():
        assert keras_archs.MobileNet(rho=Fraction(6, 7)).input_shape == (None, 192, 192, 3)
        classes = tf.reduce_max([0, 2, 1]) + 1
        assert keras_archs.MobileNet(alpha=0.25, classes=classes).output_shape == (None, 3)


@pytest.mark.parametrize(
    "shape",
    [
        [96, 64, 3],
        np.zeros((96, 64, 3)).shape,
        np.array([96, 64, 3]),
        (np.int32(96), 64, np.uint8(3)),
        tf.TensorShape([96, 64, 3]),
    ],
    ids=lambda shape: type(shape).__name__,
)
@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2", "resnet18", "vgg11", "coatnet0"])
def test_any_sequence_is_a_shape(name, shape):
    with symbolic():
        model = keras_archs.create_model(name, input_shape=shape)
    assert model.input_shape == (None, 96, 64, 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (64, "got 64. Did you mean (64, 64, 3)?"),
        (np.int64(64), "Did you mean (64, 64, 3)?"),
        ((64, 48), "got (64, 48). Did you mean (64, 48, 3)?"),
        ((None, None), "Did you mean (None, None, 3)?"),
        (16, "at least 32 pixels each way, got 16."),
        ((16, 16), "got (16, 16)."),
        ((np.int64(16), 64, 3), "got (16, 64, 3)."),
        ((64.0, 64, 3), "got (64.0, 64, 3)."),
        ((None, 64, 64, 3), "got (None, 64, 64, 3)."),
        ("224", "got '224'."),
        (b"abc", "got b'abc'."),
        ({64, 65, 3}, "input_shape"),
        (tf.TensorShape(None), "input_shape"),
        ((64, 64, None), "input_shape=(64, 64, None)"),
        ((64, 64, 3.0), "input_shape=(64, 64, 3.0)"),
        ((True, 64, 3), "got (True, 64, 3)."),
    ],
)
@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2", "resnet18"])
def test_a_wrong_shape_is_named(name, shape, message):
    with pytest.raises(InputError) as error:
        keras_archs.create_model(name, input_shape=shape)
    assert_named(error.value, "input_shape")
    assert message in str(error.value)


@pytest.mark.parametrize("builder", [keras_archs.MobileNet, keras_archs.MobileNetV3Small])
def test_a_width_in_the_place_of_the_shape_is_named(builder):
    with pytest.raises(InputError, match=r"input_shape must be .* Did you mean alpha=0\.5\?"):
        builder(0.5)


@pytest.mark.parametrize(
    "tensor", [np.zeros((1, 64, 64, 3)), tf.zeros((1, 64, 64, 3)), (64, 64, 3), [], "x"]
)
@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2", "resnet18"])
def test_what_is_not_a_keras_tensor_is_named(name, tensor):
    with pytest.raises(InputError, match="input_tensor must be a Keras tensor"):
        keras_archs.create_model(name, input_tensor=tensor)


@pytest.mark.parametrize("shape", [(10,), (16, 16, 3), (64, 64, None)])
def test_a_tensor_of_a_wrong_shape_is_named(shape):
    with pytest.raises(InputError, match="input_tensor"):
        keras_archs.MobileNet(input_tensor=keras.Input(shape))


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({9: "se"}, r"attention=\{9: 'se'\}: mobilenet.* no map of level 9; allowed are \[1, 2"),
        ({"3": "se"}, "attention must map levels"),
        ({True: "se"}, "attention must map levels"),
        ({3: 3}, "attention must be"),
        (layers.CBAM, "attention must be"),
        ("sse", "attention='sse'.*Did you mean 'se'"),
    ],
)
def test_wrong_attention_is_named(attention, message):
    with symbolic(), pytest.raises(InputError, match=message):
        keras_archs.MobileNet(alpha=0.25, attention=attention)


def test_compound_scaling():
    scaling = keras_archs.compound_scaling
    assert scaling(np.int64(6)) == scaling(6)
    assert scaling(np.float32(2.5), released=False) == scaling(2.5, released=False)
    for argument in arguments_of(scaling):
        for value in ("x", None, object(), [], float("nan")):
            with pytest.raises(InputError) as error:
                scaling(**{"phi": 1, argument: value})
            assert_named(error.value, argument)
    with pytest.raises(InputError, match=r"phi must be .*got 100000"):
        scaling(100_000, released=False)
    with pytest.raises(InputError, match="resolution must be at least 32, got 16"):
        keras_archs.EfficientNet(resolution=16)
