"""Models with layers in other words: the same weights, outputs and names."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_archs.layers import MultiHeadSelfAttention2D, MultiQueryAttention2D, NonLocalBlock
from tflite_export.lowering import lower
from tflite_export.operators import operators
from tflite_export.rewording import reworded

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
    other = reworded(model)
    assert other is not model
    names = ([layer.name for layer in each.layers[1:]] for each in (other, model))
    assert next(names) == next(names)
    np.testing.assert_allclose(
        other.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5
    )
    assert type(model.get_layer("mlp")) is layers.Dense, "the model itself stays"


def test_nothing_to_replace():
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)])
    model = keras.Model(model.inputs, model.outputs)
    assert reworded(model) is model


@pytest.mark.parametrize(
    "block",
    [
        NonLocalBlock(),
        MultiQueryAttention2D(2, 8, kv_strides=2),
        MultiHeadSelfAttention2D(2, position="relative"),
        MultiHeadSelfAttention2D(2, position="absolute"),
        MultiHeadSelfAttention2D(2, position="bias"),
        MultiHeadSelfAttention2D(2, key_dim=6, position=None),
    ],
    ids=["non_local", "multi_query", "relative", "absolute", "bias", "other values"],
)
@pytest.mark.parametrize("batch", [1, None])
def test_attention_in_float_is_whole_for_xnnpack(block, batch):
    """Nothing asks for a shape, splits unevenly or has more than four axes."""
    image = keras.Input(SHAPE)
    x = block(layers.Conv2D(8, 1)(image))
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    found = operators(lower(model, batch=batch))
    assert [str(each) for each in found if not each.xnnpack] == []
    if batch:
        assert [str(each) for each in found if not each.gpu] == []


def test_layer_norm_has_an_integer_version():
    images = np.random.default_rng(1).normal(size=(50, *SHAPE)).astype("float32")
    found = operators(lower(mixed(nested=False), "int8", representative=images))
    assert {tensor.dtype for each in found for tensor in each.outputs} == {"int8"}
