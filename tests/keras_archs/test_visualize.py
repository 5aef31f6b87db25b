"""What pictures take, refuse and show; `test_features.py` has what is in them."""

from io import BytesIO
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

import keras_archs
from keras_archs.analysis.visualize import attention_map, feature_maps, grad_cam
from keras_archs.errors import InputError
from tests.keras_archs.helpers import images


def classifier(top, shape=(16, 16, 3), first=None):
    inputs = keras.Input(shape)
    x = layers.Conv2D(6, 3, 2, "same", activation="relu", name="conv")(
        first(inputs) if first else inputs
    )
    x = keras_archs.NonLocalBlock(name="attention")(x)
    return keras.Model(inputs, top(layers.GlobalAveragePooling2D()(x)), name="classifier")


def dense(units=3, activation="softmax"):
    return layers.Dense(units, activation=activation, name="scores")


def picture(figure):
    return np.asarray(figure.axes[-1].images[-1].get_array())


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype="uint8")
FLOATS = PIXELS.astype("float32")


@pytest.mark.parametrize(
    "image",
    [
        FLOATS.tolist(),
        FLOATS[None],
        [FLOATS],
        tf.constant(FLOATS),
        tf.constant(FLOATS)[None],
        tf.cast(FLOATS, "bfloat16"),  # every pixel is exact
        FLOATS.astype("float64"),
        PIXELS,
        PIXELS.astype("int64").tolist(),
        Image.fromarray(PIXELS),
        Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]]), "RGBA"),
    ],
    ids=lambda image: type(image).__name__,
)
def test_an_image_of_any_kind_gives_the_same_picture(image):
    model = classifier(dense(), first=layers.Rescaling(1 / 127.5, -1))
    for draw in (grad_cam, feature_maps, lambda m, x: attention_map(m, x, "attention")):
        np.testing.assert_allclose(picture(draw(model, image)), picture(draw(model, FLOATS)))


def test_one_channel_and_photographs_that_lie_on_their_side():
    model = classifier(dense(), (16, 8, 1), layers.Rescaling(1 / 255))
    gray = PIXELS[:, :8, 0]
    expected = picture(feature_maps(model, gray[..., None], "conv"))
    np.testing.assert_array_equal(picture(feature_maps(model, gray, "conv")), expected)
    lying = Image.fromarray(np.rot90(gray))  # to the left
    lying.getexif()[0x0112] = 6  # a quarter turn to the right sets it upright
    np.testing.assert_array_equal(picture(feature_maps(model, lying, "conv")), expected)


@pytest.mark.parametrize("draw", [grad_cam, feature_maps], ids=["grad_cam", "feature_maps"])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cat.jpg", "image must be an array.*'cat.jpg'"),
        (None, "image must be an array.*None"),
        ([[1, 2], [3]], "image must"),
        (np.stack([FLOATS, FLOATS]), r"image must be one image.*\(2, 16, 16, 3\)"),
        (FLOATS[0], r"image must be an array.*\(16, 3\)"),
        (FLOATS[:8], r"image has the shape \(8, 16, 3\).*classifier takes \(16, 16, 3\)"),
        (FLOATS[..., :1], r"image has the shape \(16, 16, 1\)"),
        (Image.new("RGB", (20, 10)), r"image has the shape \(10, 20, 3\).*resize"),
        (PIXELS, "image holds integers.*uint8.*preprocess_input"),
        (Image.fromarray(PIXELS), "image holds integers"),
        (FLOATS * np.nan, "image holds NaN"),
    ],
)
def test_other_images_are_refused_in_one_line(draw, image, message):
    with pytest.raises(InputError, match=message) as raised:
        draw(classifier(dense()), image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("index", ["cat", 1.5, 99, -1, True, [1], np.float32(1)])
def test_class_index_is_named(index):
    with pytest.raises(InputError, match=r"class_index.*0\.\.2"):
        grad_cam(classifier(dense()), FLOATS, class_index=index)


@pytest.mark.parametrize("index", [np.int64(2), np.uint8(2), tf.constant(2)])
def test_class_index_is_any_integer(index):
    model = classifier(dense())
    figure = grad_cam(model, FLOATS, class_index=index)
    assert "class 2," in figure.axes[1].get_title()
    np.testing.assert_array_equal(picture(figure), picture(grad_cam(model, FLOATS, 2)))


def test_both_classes_of_a_sigmoid_are_those_of_a_softmax_of_two():
    """The sigmoid of z is the softmax of 0 and z, and of -z / 2 and z / 2."""
    one, two = classifier(dense(1, "sigmoid")), classifier(dense(2))
    one.layers[-1].bias.assign([0.3])
    *weights, kernel, bias = one.get_weights()
    two.set_weights([*weights, np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2])
    probability = float(one(FLOATS[None])[0, 0])
    np.testing.assert_allclose(two(FLOATS[None])[0, 1], probability, atol=1e-6)
    heats = []
    for index, score in enumerate([1 - probability, probability]):
        found, expected = (grad_cam(model, FLOATS, index) for model in (one, two))
        assert found.axes[1].get_title() == f"class {index}, score {score:.3g}"
        np.testing.assert_allclose(picture(found), picture(expected), atol=1e-5)
        heats.append(picture(found))
    assert np.ptp(heats[0]) > 0.1 or np.ptp(heats[1]) > 0.1
    assert not np.allclose(*heats)
    likely = int(probability > 0.5)
    assert f"class {likely}," in grad_cam(one, FLOATS).axes[1].get_title()
    with pytest.raises(InputError, match=r"class_index.*0\.\.1"):
        grad_cam(one, FLOATS, 2)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_softmax_that_is_an_operation_is_taken_off(activation):
    end = {"softmax": keras.ops.softmax, "sigmoid": keras.ops.sigmoid}[activation]
    model = classifier(lambda x: end(dense(3, None)(x)))
    logits = classifier(dense(3, None))
    logits.set_weights(model.get_weights())
    for index in range(3):
        expected = picture(grad_cam(logits, FLOATS, index))
        np.testing.assert_allclose(picture(grad_cam(model, FLOATS, index)), expected, atol=1e-5)


@pytest.mark.full
def test_frozen_models_have_the_same_picture():
    model = classifier(dense())
    expected = picture(grad_cam(model, FLOATS, 1))
    model.trainable = False
    np.testing.assert_array_equal(picture(grad_cam(model, FLOATS, 1)), expected)


def all_convolutional():
    """Class scores at each position and their average: a classifier that ends in its pooling."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(3, 1)(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def test_a_classifier_may_end_in_its_pooling_and_features_are_none():
    assert picture(grad_cam(all_convolutional(), FLOATS, layer="conv")).shape == (14, 14)
    for pooling in (None, "avg", "max"):
        features = keras_archs.MobileNet(
            alpha=0.25, input_shape=(32, 32, 3), include_top=False, pooling=pooling
        )
        with pytest.raises(InputError, match=r"'mobilenet_0\.25_32'.*not scores"):
            grad_cam(features, images(32)[0])


WRONGLY: Any = attention_map  # whose types a call does not keep


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: grad_cam(m, FLOATS, layer="scores"), "layer must have .*, got 'scores'"),
        (lambda m: feature_maps(m, FLOATS, "scores"), "layer must have .*, got 'scores'"),
        (lambda m: feature_maps(m, FLOATS, count=0), "count"),
        (
            lambda m: attention_map(m, FLOATS, "conv"),
            "layer must have attention scores, got 'conv'",
        ),
        (lambda m: WRONGLY(m, FLOATS, "attention", 0.5), r"position.*0\.5"),
        (lambda m: attention_map(m, FLOATS, "attention", (0.5, 1)), r"position.*\(0\.5, 1\)"),
        (lambda _: grad_cam("mobilenet", FLOATS), "model must be.*got a str"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(classifier(dense()))


def test_attention_inside_a_model_is_that_of_the_layer():
    inner = classifier(dense())
    inputs = keras.Input((16, 16, 3))
    outer = keras.Model(inputs, inner(inputs))
    expected = picture(attention_map(inner, FLOATS, "attention"))
    found = picture(attention_map(outer, FLOATS, "classifier/attention"))
    np.testing.assert_array_equal(found, expected)


def test_a_notebook_shows_the_figure_by_itself():
    """IPython asks an object for `_repr_png_`; figures that pyplot knows would be shown twice."""
    figure = feature_maps(classifier(dense()), FLOATS)
    with Image.open(BytesIO(figure._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert shown.size == tuple(figure.bbox.size.astype(int))
        assert len(set(shown.convert("L").tobytes())) > 10
    assert plt.get_fignums() == []
    assert len(repr(figure)) < 100
