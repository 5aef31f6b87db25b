"""Filters that died in training: int8 files of them load, and compute what they do otherwise."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from tests.tflite_export.networks import stripes
from tflite_export import Classifier, convert, quantize_aware

IMAGES = stripes(100, seed=3)[0]
KINDS = {
    "conv": lambda **arguments: layers.Conv2D(8, 3, **arguments),
    "depthwise": lambda **arguments: layers.DepthwiseConv2D(3, **arguments),
    "dense": lambda **arguments: layers.Dense(8, **arguments),
}


def network(kind, factor):
    """One with a filter whose weights are so large, on channels that are zero for all images."""
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    before = layers.Conv2D(8, 3, bias_initializer="ones", activation="relu", name="before")
    x = before(image)
    if kind == "dense":
        x = layers.GlobalAveragePooling2D()(x)
    layer = KINDS[kind](name="layer")
    x = layer(x)
    if kind != "dense":
        x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, name="end")(x))
    kernel, bias = before.get_weights()
    kernel[..., 3], bias[3] = 0, -1
    before.set_weights([kernel, bias])
    kernel, bias = layer.get_weights()
    channels = kernel[..., 0] if kind == "depthwise" else kernel
    if kind != "depthwise":
        channels[..., 3] = 0
        channels[..., 3, 3] = factor
    else:
        channels[..., 3] = factor
    bias[3] = 0.3
    layer.set_weights([kernel, bias])
    return model


def units(content):
    """Steps of the output that one unit of each kernel's products is."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    scales = {
        tensor["index"]: tensor["quantization_parameters"]["scales"]
        for tensor in interpreter.get_tensor_details()
    }
    for step in interpreter._get_ops_details():
        if "CONV_2D" in step["op_name"] or step["op_name"] == "FULLY_CONNECTED":
            image, kernel = step["inputs"][:2]
            yield scales[image] * scales[kernel] / scales[step["outputs"][0]]


@pytest.mark.parametrize("kind", KINDS)
def test_nor_do_those_of_models_in_models_go_further_than_xnnpack_does(kind):
    model = network(kind, 1e6)
    image = keras.Input(IMAGES.shape[1:])
    outer = keras.Model(image, model(image))
    content = convert(outer, "int8", representative=IMAGES, io="float32").content
    assert 1e-9 < min(map(np.min, units(content))) <= max(map(np.max, units(content))) < 256
    # The others are as they were; only the bias of the dead one is rounded to steps of its own.
    found, expected = Classifier(content).predict(IMAGES), model.predict(IMAGES, verbose=0)
    others = found - expected - np.mean(found - expected, axis=0)
    assert np.abs(others).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("aware", [False, True], ids=["calibrated", "aware"])
@pytest.mark.parametrize("factor", [1e6, 1e-12])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_dead_filters_load_and_agree(kind, factor, aware):
    model = network(kind, factor)
    expected = model.predict(IMAGES, verbose=0)
    if aware:
        content = convert(quantize_aware(model, IMAGES), "int8", io="float32").content
    else:
        content = convert(model, "int8", representative=IMAGES, io="float32").content
    found = Classifier(content).predict(IMAGES)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))
