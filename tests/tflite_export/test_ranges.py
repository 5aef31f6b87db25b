"""What an activation cuts off takes none of int8's steps, nor does what few images have."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

from keras_archs.transforms.quantization import QuantizationRange
from tests.tflite_export.files import lower
from tests.tflite_export.networks import stripes
from tflite_export import Classifier, quantize_aware
from tflite_export.lowering.calibrated_ranges import Spread
from tflite_export.lowering.from_aware import to_int8

IMAGES = stripes(100, seed=3)[0]
FAR = 300.0


def network(activation, beside=False):
    """Its activation takes values around zero in most channels, and down to -FAR in one.

    Args:
        beside: whether what the activation takes goes elsewhere as well.
    """
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    x = layers.Conv2D(8, 3, activation="sigmoid")(image)
    before = keras.Model(image, x)
    many = layers.Conv2D(8, 1, use_bias=False, name="many")
    taken = many(x)
    x = layers.Activation(activation)(taken)
    if beside:
        x = layers.Concatenate()([x, layers.ReLU()(taken)])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, name="end")(x))
    kernel = np.random.default_rng(0).normal(0, 1, many.kernel.shape)
    kernel[..., 0] = -FAR / before.predict(IMAGES, verbose=0).sum(axis=-1).max()
    many.set_weights([kernel])
    # The far channel alone would hide the others.
    end = model.get_layer("end")
    kernel, bias = end.get_weights()
    kernel[0] = 0
    if beside:
        kernel[8:] = 0
    end.set_weights([kernel, bias])
    return model


def calibrating(model, images=IMAGES):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    return converter


def by_the_converter(model, images=IMAGES):
    converter = calibrating(model, images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def error(model, content, images=IMAGES):
    """Root mean square, as a share of the outputs' own spread."""
    found = Classifier(content).predict(images)
    wanted = model.predict(images, verbose=0)
    return np.sqrt(((found - wanted) ** 2).mean()) / wanted.std(axis=0).mean()


def widest(content):
    """The widest range of a tensor of four dimensions in the file."""
    return max(
        float(255 * tensor["quantization"][0])
        for tensor in Interpreter(model_content=content).get_tensor_details()
        if len(tensor["shape"]) == 4 and tensor["dtype"] == np.int8
    )


def calibrated(model, images=IMAGES):
    return lower(model, "int8", representative=images)


def to_train(model):
    """As `quantize_aware` begins."""
    return to_int8(quantize_aware(model, IMAGES))


@pytest.mark.full
@pytest.mark.parametrize("convert", [calibrated, to_train])
@pytest.mark.parametrize(
    ("activation", "gain", "width"),
    [
        ("sigmoid", 5, 2 * np.log(511)),
        # What a swish takes is cut off below zero alone; above, it takes up to 10 here.
        ("silu", 5, np.log(511) + 10),
        ("hard_silu", 5, 3 + 10),
    ],
)
def test_steps_lie_where_the_activation_changes(activation, gain, width, convert):
    model = network(activation)
    ours, theirs = convert(model), by_the_converter(model)
    assert widest(theirs) > FAR
    assert widest(ours) < 1.01 * width
    assert gain * error(model, ours) < error(model, theirs)


@pytest.mark.full
@pytest.mark.parametrize(
    ("swish", "copied"),
    [
        (layers.Activation("hard_silu"), True),
        (layers.Activation("hard_silu"), False),
        (ops.hard_silu, True),
    ],
)
def test_a_hard_swish_is_enough_whether_or_not_the_model_can_be_copied(swish, copied):
    """A model with a Lambda cannot, and keeps TFLite's own operator."""
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    taken = layers.Conv2D(4, 3, use_bias=False)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(swish(taken(image))))
    model = keras.Model(image, x if copied else layers.Lambda(lambda x: x * 2.0)(x))
    (kernel,) = taken.get_weights()
    kernel[..., 0] = 0
    kernel[0, 0, 0, 0] = -FAR
    taken.set_weights([kernel])
    above = np.maximum(keras.Model(image, taken.output).predict(IMAGES, verbose=0), 0).max()
    assert widest(by_the_converter(model)) > 1.5 * above
    assert widest(calibrated(model)) < 1.1 * above + 3


@pytest.mark.full
@pytest.mark.parametrize("convert", [calibrated, to_train])
def test_what_goes_elsewhere_is_not_cut_off_where_the_sigmoid_ends(convert):
    assert widest(convert(network("sigmoid", beside=True))) > FAR / 2


@pytest.mark.full
def test_a_range_in_training_follows_what_is_not_cut_off():
    """A layer that takes its activation in, whose values move far out while it trains."""
    model = keras.Sequential([keras.Input(IMAGES.shape[1:])])
    for layer in layers.Conv2D(4, 3, activation="sigmoid"), layers.Flatten(), layers.Dense(4):
        model.add(layer)
    aware = quantize_aware(model, IMAGES)
    (ends,) = (each for each in aware.layers if isinstance(each, QuantizationRange) and each.before)
    for _ in range(300):
        ends(np.array([-FAR, FAR], "float32"), training=True)
    # It moves by a hundredth of the way in a step.
    np.testing.assert_allclose([ends.low, ends.high], [-np.log(511), np.log(511)], rtol=0.06)


@pytest.mark.full
def test_few_values_far_from_all_others_take_no_steps():
    """One pixel of every second image alone is seen by a filter, which makes much of it."""
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    conv = layers.Conv2D(8, 1, use_bias=False)
    x = layers.Activation("tanh")(layers.Activation("silu")(conv(image)))
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    (kernel,) = conv.get_weights()
    kernel[0, 0, 0] = 0
    kernel[..., 0] = [[[500.0, 0, 0]]]
    conv.set_weights([kernel])
    images = IMAGES.copy()
    images[..., 0] = 0
    images[::2, 5, 5, 0] = 1
    ours, theirs = calibrated(model, images), by_the_converter(model, images)
    assert 5 * error(model, ours, images) < error(model, theirs, images)


@pytest.mark.full
@pytest.mark.parametrize(("kernel", "bias"), [(0, 0), (0, 1), (1e-42, 0), (1e-9, 1)])
def test_maps_of_one_value(kernel, bias):
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    conv = layers.Conv2D(4, 1, activation="silu")
    x = layers.Concatenate()([conv(image), image])
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    conv.set_weights([np.full(conv.kernel.shape, kernel), np.full(4, bias)])
    ours, theirs = calibrated(model), by_the_converter(model)
    assert error(model, ours) < 1.1 * error(model, theirs) + 0.01


@pytest.mark.full
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_few_images_far_from_all_others_take_no_steps(activation):
    """In all of their pixels a colour is on that the others do not have, and counts a lot."""
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    conv = layers.Conv2D(8, 3, activation=activation)
    strong = keras.initializers.RandomNormal(stddev=2.0)
    x = layers.Dense(4, kernel_initializer=strong)(layers.GlobalMaxPooling2D()(conv(image)))
    model = keras.Model(image, layers.Softmax()(x))
    kernel, bias = conv.get_weights()
    kernel[:, :, 0] = 10 * np.abs(kernel).max()
    conv.set_weights([kernel, bias])
    images = IMAGES.copy()
    images[..., 0] = 0
    usual = images[1::20].copy()
    images[::20, ..., 0] = 1
    ours, theirs = calibrated(model, images), by_the_converter(model, images)
    assert 3 * error(model, ours, usual) < error(model, theirs, usual)


@pytest.mark.full
def test_a_class_of_few_images_far_from_all_others_is_not_given_up():
    """It has four images in 100, which a range of all others would make like its neighbour's."""
    classes, pixels = 25, 64
    labels = np.arange(100) % classes
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 0.02, (len(labels), pixels))
    images[np.arange(len(labels)), np.minimum(labels, classes - 2)] = 1.0
    images[labels == classes - 1] *= 10
    images = np.float32(images.reshape(-1, 8, 8, 1))
    image = keras.Input(images.shape[1:])
    x = layers.Flatten()(layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")(image))
    end = layers.Dense(classes, activation="softmax")
    model = keras.Model(image, end(x))
    kernel, bias = np.zeros((pixels, classes)), np.zeros(classes)
    kernel[range(classes - 1), range(classes - 1)] = 4
    kernel[classes - 2, classes - 1], bias[classes - 1] = 8, -12
    end.set_weights([kernel, bias])
    scores = Classifier(calibrated(model, images)).predict(images)
    np.testing.assert_array_equal(scores.argmax(axis=1), labels)


@pytest.mark.full
@pytest.mark.parametrize("join", [layers.Add(), layers.Subtract()])
def test_a_tensor_that_few_images_alone_reach_keeps_its_range(join):
    """Without it, TFLite would end the process for the sum, and the branch give nothing."""
    keras.utils.set_random_seed(1)
    images = np.abs(IMAGES) / np.abs(IMAGES).max()
    images[::25] *= 3
    image = keras.Input(images.shape[1:])
    convs = [layers.Conv2D(4, 1), layers.Conv2D(4, 1)]
    # Pooled, so that the convolutions do not become one with what joins them.
    parts = [layers.MaxPooling2D(3, 1, "same")(conv(image)) for conv in convs]
    rare = layers.GlobalAveragePooling2D()(layers.ReLU()(join(parts)))
    usual = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(3)(layers.Concatenate()([rare, usual])))
    for conv, sign in zip(convs, (1, 1 if isinstance(join, layers.Add) else -1), strict=True):
        kernel = 10 * np.abs(conv.get_weights()[0])
        conv.set_weights([sign * kernel, -sign * 1.2 * kernel.sum(axis=(0, 1, 2))])
    assert error(model, calibrated(model, images), images) < 0.05


def test_spread_is_numpy_s_quantile():
    model = network("sigmoid")
    converter = calibrating(model)
    calibrated = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset
    ).calibrated_model
    taken = keras.Model(model.input, model.get_layer("many").output)
    values = taken.predict(IMAGES, verbose=0)
    spread = Spread(calibrated, IMAGES)

    def is_among(wanted, found):
        return min(np.abs(np.subtract(x, wanted)).max() for x in found.values()) < error

    error = np.ptp(values) / 1000
    assert is_among(np.quantile(values, [0.01, 0.99]), spread.without(0.01, 0.0))
    values = values.reshape(len(IMAGES), -1)
    tenth = np.sort(values.min(axis=1))[10], np.sort(values.max(axis=1))[-11]
    assert is_among(tenth, spread.without(0.0, 0.1))
    assert not is_among(tenth, spread.without(0.0, 0.0))


@pytest.mark.full
def test_scores_from_sigmoid_are_right_where_all_are_far_from_zero():
    """The range of logits below the sigmoid's end would be empty."""
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    x = layers.Dense(3, bias_initializer=keras.initializers.Constant(-40.0))(x)
    model = keras.Model(image, layers.Activation("sigmoid")(x))
    scores = Classifier(calibrated(model)).predict(IMAGES)
    assert scores.max() < 1 / 128
