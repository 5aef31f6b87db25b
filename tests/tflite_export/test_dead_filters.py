"""Filters that died in training: int8 files of them load, and compute what they do otherwise."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

import keras_archs
from keras_archs.transforms.quantization.dead_filters import rescale_dead_filters
from tests.tflite_export.networks import stripes
from tflite_export import Classifier, convert, quantize_aware
from tflite_export.lowering.flatbuffer import zero_refused_kernels
from tflite_export.lowering.from_aware import to_int8
from tflite_export.tflite_file.graph import Graph

IMAGES = stripes(100, seed=3)[0]
KINDS = {
    "conv": lambda **arguments: layers.Conv2D(8, 3, **arguments),
    "depthwise": lambda **arguments: layers.DepthwiseConv2D(3, **arguments),
    "dense": lambda **arguments: layers.Dense(8, **arguments),
}


def network(kind, factor, behind=None, seen=0.0):
    """One with a filter whose weights are so large, on a channel that is hardly ever seen.

    Args:
        kind: of the layer with the filter.
        factor: its weights.
        behind: what follows the layer.
        seen: the weights that make the channel; by default it is zero for all images.
    """
    keras.utils.set_random_seed(1)
    image = keras.Input(IMAGES.shape[1:])
    before = layers.Conv2D(8, 3, bias_initializer="ones", activation="relu", name="before")
    x = before(image)
    if kind == "dense":
        x = layers.GlobalAveragePooling2D()(x)
    layer = KINDS[kind](name="layer")
    x = layer(x)
    if behind is not None:
        x = behind(x)
    if kind != "dense":
        x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, name="end")(x))
    kernel, bias = before.get_weights()
    kernel[..., 3], bias[3] = seen, 0 if seen else -1
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
    scales = {
        tensor["index"]: tensor["quantization_parameters"]["scales"]
        for tensor in Interpreter(model_content=content).get_tensor_details()
    }
    for node in Graph.read(content).operators:
        if "CONV_2D" in node.name or node.name == "FULLY_CONNECTED":
            image, kernel = (tensor.index for tensor in node.inputs[:2])
            yield scales[image] * scales[kernel] / scales[node.outputs[0].index]


def assert_the_file_agrees(model, aware):
    """The int8 file of a model, by way of a quantisation-aware one or not."""
    expected = model.predict(IMAGES, verbose=0)
    if aware:
        content = convert(quantize_aware(model, IMAGES), "int8", io="float32").content
    else:
        content = convert(model, "int8", representative=IMAGES, io="float32").content
    found = Classifier(content).predict(IMAGES)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_of_models_in_models_end_where_xnnpack_does(kind):
    model = network(kind, 1e6)
    image = keras.Input(IMAGES.shape[1:])
    outer = keras.Model(image, model(image))
    content = convert(outer, "int8", representative=IMAGES, io="float32").content
    assert 1e-9 < min(map(np.min, units(content))) <= max(map(np.max, units(content))) < 256
    # The others are as they were; only the bias of the dead one is rounded to steps of its own.
    found, expected = Classifier(content).predict(IMAGES), model.predict(IMAGES, verbose=0)
    others = found - expected - np.mean(found - expected, axis=0)
    assert np.abs(others).max() < 0.05 * np.ptp(expected)


@pytest.mark.full
@pytest.mark.parametrize("aware", [False, True], ids=["calibrated", "aware"])
@pytest.mark.parametrize("factor", [1e6, 1e-12])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_dead_filters_load_and_agree(kind, factor, aware):
    assert_the_file_agrees(network(kind, factor), aware)


@pytest.mark.full
@pytest.mark.parametrize("aware", [False, True], ids=["calibrated", "aware"])
@pytest.mark.parametrize(
    "behind",
    [
        layers.ReLU,
        lambda: layers.ReLU(6),
        lambda: keras_archs.layers.Activation("relu"),
        lambda: keras.ops.relu,
    ],
    ids=["relu", "relu6", "activation", "operation"],
)
def test_the_range_is_that_behind_an_activation_that_the_file_fuses(behind, aware):
    """Far below zero, where the activation hides it, another filter makes the range large."""
    model = network("conv", 1e5, behind())
    kernel, bias = model.get_layer("layer").get_weights()
    bias[5] = -1e3
    model.get_layer("layer").set_weights([kernel, bias])
    assert_the_file_agrees(model, aware)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_filters_that_see_little_and_make_much_of_it_stay(kind):
    model = network(kind, 1e6, seen=1e-7)
    assert np.ptp(keras.Model(model.input, model.get_layer("layer").output)(IMAGES)[..., 3]) > 0.01
    assert rescale_dead_filters(model, IMAGES) is model
    told = {"representative": IMAGES, "keep_float": ["before", "layer"]}
    found = Classifier(convert(model, "int8", **told).content).predict(IMAGES)
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_filter_adds_for_all_images_stays(kind):
    """As behind a batch norm that takes it off again."""
    model = network(kind, 2.0**17)  # float32 holds its sums
    kernel, bias = model.get_layer("before").get_weights()
    kernel[..., 3], bias[3] = 0, 0.5
    model.get_layer("before").set_weights([kernel, bias])
    kernel, bias = model.get_layer("layer").get_weights()
    bias[3] = -0.5 * 2**17 * (1 if kind == "dense" else 9)
    model.get_layer("layer").set_weights([kernel, bias])
    made = rescale_dead_filters(model, IMAGES)
    assert np.abs(made.get_layer("layer").get_weights()[0]).max() < 1e3
    expected = model.predict(IMAGES, verbose=0)
    found = made.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))


@pytest.mark.full
def test_layers_that_stay_in_float_and_models_that_cannot_be_copied_stay():
    model = network("conv", 1e6, layers.ReLU(name="behind"))
    assert rescale_dead_filters(model, IMAGES) is not model
    assert rescale_dead_filters(model, IMAGES, ["layer"]) is model
    assert rescale_dead_filters(model, IMAGES, ["behind"]) is model
    model = network("conv", 1e6, layers.Lambda(lambda x: x * 1))
    assert rescale_dead_filters(model, IMAGES) is model
    assert convert(model, "int8", representative=IMAGES).content


@pytest.mark.full
def test_filters_that_training_drives_out_of_reach_do_not_end_the_process():
    aware = quantize_aware(network("conv", 1.0), IMAGES)
    kernel, *bias = aware.get_layer("layer").get_weights()
    kernel[..., 3, 3] = 1e6
    aware.get_layer("layer").set_weights([kernel, *bias])
    content = to_int8(aware)
    assert max(map(np.max, units(content))) < 256
    assert Classifier(content).predict(IMAGES).shape == (len(IMAGES), 4)


@pytest.mark.full
def test_kernels_with_one_scale_for_all_filters_and_computed_ones_pass():
    content = convert(network("dense", 1.0), "int8", representative=IMAGES).content
    file = flatbuffer_utils.read_model_from_bytearray(content)
    graph = file.subgraphs[0]
    dense = graph.operators[-1]
    kernel, bias = (graph.tensors[each] for each in dense.inputs[1:])
    for tensor, scale in ((kernel, 1e9), (bias, 1.0)):
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    changed = flatbuffer_utils.convert_object_to_bytearray(file)
    found = zero_refused_kernels(bytes(changed))
    assert max(map(np.max, units(found))) < 256
    *_, zeros = Graph.read(found).operators
    tensor = Interpreter(model_content=found).get_tensor(zeros.inputs[1].index)
    assert not tensor.any()

    file.buffers[kernel.buffer].data = None
    computed = bytes(flatbuffer_utils.convert_object_to_bytearray(file))
    assert zero_refused_kernels(computed) == computed
