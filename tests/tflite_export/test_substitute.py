"""Models with layers in other words: the same weights, outputs and names."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_archs.layers import (
    CBAM,
    ECA,
    AttentionAugmentedConv2D,
    GlobalContext,
    LocalResponseNormalization,
    MultiHeadSelfAttention2D,
    MultiQueryAttention2D,
    NonLocalBlock,
    SqueezeExcite,
)
from keras_archs.preprocessing import CAFFE, TORCH
from tests.tflite_export.files import lower
from tflite_export.lowering.substitute import substitute_layers
from tflite_export.runtime.classifier import Classifier
from tflite_export.tflite_file.delegates import operators

SHAPE = (8, 8, 8)


def mixed(nested: bool):
    """Dense layers on maps and layer norms, all used twice or in a model inside."""
    dense, norm = layers.Dense(8, "gelu", name="mlp"), layers.LayerNormalization(name="norm")
    image = keras.Input(SHAPE)
    x = norm(dense(image)) * 2.0
    if nested:
        inside = keras.Input(SHAPE)
        x = keras.Model(inside, norm(dense(inside)), name="inner")(x)
    else:
        x = norm(dense(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, name="scores")(x))
    numbers = np.random.default_rng(0)
    model.set_weights([numbers.normal(0, 0.5, each.shape) for each in model.get_weights()])
    return model


@pytest.mark.parametrize("nested", [False, True])
def test_the_same_in_other_words(nested):
    model = mixed(nested)
    images = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype("float32")
    other = substitute_layers(model)
    assert other is not model
    names = ([layer.name for layer in each.layers[1:]] for each in (other, model))
    assert next(names) == next(names)
    np.testing.assert_allclose(
        other.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5
    )
    assert type(model.get_layer("mlp")) is layers.Dense, "the model itself stays"


@pytest.mark.full
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("preprocessing", [TORCH, CAFFE])
def test_preprocessing_by_colour_is_one_convolution(preprocessing, nested):
    image, inside = keras.Input((9, 9, 3)), keras.Input((9, 9, 3))
    first = preprocessing.layer()
    if nested:
        first = keras.Model(inside, first(inside))
    x = layers.Conv2D(4, 3)(layers.ZeroPadding2D(1)(first(image)))
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 9, 9, 3)).astype("float32")
    content = lower(model)
    np.testing.assert_allclose(
        Classifier(content).predict(pixels), model.predict(pixels, verbose=0), atol=1e-4
    )
    found = [each.name for each in operators(content)]
    assert found == ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"]


@pytest.mark.full
@pytest.mark.parametrize("nested", [False, True])
def test_hard_swish_in_integers_is_whole_for_xnnpack(nested):
    """As a layer, as an operation, and as the end of a convolution."""
    image, inside = keras.Input(SHAPE), keras.Input(SHAPE)
    first = layers.Conv2D(8, 3, activation="hard_swish")
    if nested:
        first = keras.Model(inside, first(inside))
    x = layers.Activation("hard_swish", name="layer")(layers.Conv2D(8, 3)(first(image)))
    x = keras.ops.hard_silu(layers.Conv2D(8, 3)(x))
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(0).normal(0, 3, (60, *SHAPE)).astype("float32")
    in_float, integers = lower(model), lower(model, "int8", representative=images)
    # In float XNNPACK has it in one.
    assert [each.name for each in operators(in_float)].count("HARD_SWISH") == 3
    found = operators(integers)
    assert [str(each) for each in found if not each.xnnpack] == []
    assert "HARD_SWISH" not in {each.name for each in found}
    expected = model.predict(images, verbose=0)
    error = Classifier(integers).predict(images) - expected
    assert np.sqrt(np.mean(np.square(error))) < 0.05 * expected.std()
    assert model.get_layer("layer").activation is keras.activations.hard_silu, "the model stays"


def test_nothing_to_replace():
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)])
    model = keras.Model(model.inputs, model.outputs)
    assert substitute_layers(model) is model


BLOCKS = {
    "se": lambda: SqueezeExcite(0.25, activation="swish"),
    "eca": ECA,
    "cbam": lambda: CBAM(0.25),
    "gc": lambda: GlobalContext(0.25),
    "lrn": LocalResponseNormalization,
    "non_local": NonLocalBlock,
    "multi_query": lambda: MultiQueryAttention2D(2, 8, kv_strides=2),
    "relative": lambda: MultiHeadSelfAttention2D(2, position="relative"),
    "absolute": lambda: MultiHeadSelfAttention2D(2, position="absolute"),
    "bias": lambda: MultiHeadSelfAttention2D(2, position="bias"),
    "augmented": lambda: AttentionAugmentedConv2D(16, nu=0.25, num_heads=2, pool=True),
}


@pytest.mark.full
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("batch", [1, None])
def test_blocks_in_float_are_whole_for_the_delegates(block, batch):
    """Nothing asks for a shape, splits unevenly or has more than four axes."""
    image = keras.Input(SHAPE)
    x = BLOCKS[block]()(layers.Conv2D(8, 1)(image))
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    found = operators(lower(model, batch=batch))
    left = {each.name for each in found if not each.xnnpack}
    # Keras' one-dimensional convolution adds an axis.
    assert left == ({"EXPAND_DIMS"} if block == "eca" and batch is None else set())
    if batch:
        assert [str(each) for each in found if not each.gpu] == []


@pytest.mark.full
def test_layer_norm_has_an_integer_version():
    images = np.random.default_rng(1).normal(size=(50, *SHAPE)).astype("float32")
    found = operators(lower(mixed(nested=False), "int8", representative=images))
    assert {tensor.dtype for each in found for tensor in each.outputs} == {"int8"}


@pytest.mark.full
def test_local_response_in_integers_takes_no_roots():
    """LiteRT's are so slow that the file would take longer than in float."""
    image = keras.Input(SHAPE)
    x = LocalResponseNormalization(alpha=0.5)(image)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(1).uniform(-2, 2, (50, *SHAPE)).astype("float32")
    content = lower(model, "int8", representative=images)
    found = operators(content)
    assert {tensor.dtype for each in found for tensor in each.outputs} == {"int8"}
    assert "RSQRT" not in {each.name for each in found}
    expected = model.predict(images, verbose=0)
    error = Classifier(content).predict(images) - expected
    assert np.sqrt(np.mean(np.square(error))) < 0.05 * expected.std()


@pytest.mark.full
@pytest.mark.parametrize(
    ("padding", "offset", "left"),
    [("valid", 0.0, 0), ("valid", -1.0, 0), ("same", 0.0, 0), ("same", -1.0, 2)],
)
def test_rescaling_becomes_part_of_the_convolution_where_it_can(padding, offset, left):
    """Zeros around the image are those of the rescaled one: an offset cannot go behind them."""
    image = keras.Input((9, 9, 3))
    x = layers.Rescaling(1 / 127.5, offset)(image)
    x = layers.Conv2D(4, 3, padding=padding, activation="relu")(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    found = [each.name for each in operators(lower(keras.Model(image, x), "none"))]
    assert len([name for name in found if name in {"MUL", "ADD", "SUB"}]) == left, found
