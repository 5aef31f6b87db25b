"""What each kind of file computes, in which types, and which layers stay in float."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_archs.errors import InputError
from keras_archs.preprocessing import CAFFE, TF, TORCH, Preprocessing
from keras_archs.transforms.quantization.quantize_aware import quantize_aware
from tests.tflite_export.files import lower
from tests.tflite_export.networks import SHAPE, build, shake_norms, stripes
from tflite_export.lowering.converter import built_in_alone
from tflite_export.lowering.prepare import prepare
from tflite_export.settings import KINDS
from tflite_export.tflite_file.graph import Graph

IMAGES = stripes(60)[0]
CALIBRATED = ("int8", "int16x8")
# Largest difference to Keras' probabilities that each kind may make in an untrained network.
BOUND = dict(zip(KINDS, (1e-6, 1e-3, 5e-3, 1e-2, 5e-3, 5e-3, 5e-2), strict=True))


def lower_as(kind, model, images=IMAGES, **arguments):
    return lower(model, kind, representative=images if kind in CALIBRATED else None, **arguments)


def run(content, images, batch=1):
    """The outputs of a file for images in batches, as float32; LiteRT does all but the rounding."""
    interpreter = Interpreter(model_content=content)
    runner = interpreter.get_signature_runner("serving_default")
    (source,), (target,) = (
        list(side.values()) for side in (runner.get_input_details(), runner.get_output_details())
    )
    outputs = []
    for start in range(0, len(images), batch):
        values = images[start : start + batch]
        if source["dtype"] is not np.float32:
            scale, zero = source["quantization"]
            limits = np.iinfo(source["dtype"])
            values = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
        scores = runner(image=values.astype(source["dtype"]))["scores"]
        if target["dtype"] is not np.float32:
            scale, zero = target["quantization"]
            scores = (scores.astype(np.float32) - zero) * scale
        outputs.append(scores)
    return np.concatenate(outputs)


def ends(content):
    """Type, scale and zero point of the input and of the output."""
    interpreter = Interpreter(model_content=content)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    return [(each["dtype"], *each["quantization"]) for each in (source, target)]


def weight_types(content):
    """How many values each type of constant holds."""
    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.TensorType).items()}
    found = {}
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is not None:
            kind = names[tensor.type]
            found[kind] = found.get(kind, 0) + int(np.prod(tensor.shape))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_and_an_open_batch_compute_as_keras(kind):
    model = build()
    expected = model.predict(IMAGES, verbose=0)
    single = lower_as(kind, model)
    np.testing.assert_allclose(run(single, IMAGES), expected, atol=BOUND[kind])
    signature = {"inputs": ["image"], "outputs": ["scores"]}
    assert Interpreter(model_content=single).get_signature_list() == {"serving_default": signature}

    several = lower_as(kind, model, batch=None)
    for batch in (1, 7, 20):
        actual = run(several, IMAGES, batch)
        np.testing.assert_allclose(actual, expected, atol=BOUND[kind])


@pytest.mark.full
def test_weights_have_the_types_of_their_kind():
    """27 * 16 and 16 * 64 and 64 * 4 weights of convolutions and dense layers, 144 of depthwise."""
    model = with_biases(build())
    weights, depthwise = 27 * 16 + 16 * 64 + 64 * 4, 9 * 16
    found = {kind: weight_types(lower_as(kind, model)) for kind in KINDS}
    biases = 16 + 16 + 64 + 4
    assert found["none"]["FLOAT32"] == weights + depthwise + biases
    assert found["float16"]["FLOAT16"] >= weights + depthwise
    assert found["weight_int8"]["INT8"] == weights + depthwise
    assert found["weight_int4"]["INT4"] == weights
    assert found["weight_int4"]["INT8"] == depthwise
    assert found["int8"]["INT8"] == found["int16x8"]["INT8"] == weights + depthwise
    assert "FLOAT32" not in found["int8"]
    assert found["int16x8"]["INT64"] == biases  # those of int8 activations are of 32 bits


@pytest.mark.full
def test_int4_takes_half_the_bytes_of_int8():
    model = keras.Sequential([keras.Input(SHAPE)])
    for _ in range(3):
        model.add(layers.Conv2D(128, 3, activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(4))
    size = {kind: len(lower(model, kind)) for kind in ("none", "weight_int8", "weight_int4")}
    assert size["weight_int8"] / size["none"] == pytest.approx(0.25, abs=0.02)
    assert size["weight_int4"] / size["none"] == pytest.approx(0.125, abs=0.02)


@pytest.mark.full
def test_int8_has_the_types_asked_for_at_its_ends():
    model = build()
    signed, plain = lower_as("int8", model), lower_as("int8", model, io="float32")
    unsigned = lower_as("int8", model, io="uint8")
    for (dtype, scale, zero), (other, same, shifted) in zip(
        ends(signed), ends(unsigned), strict=True
    ):
        assert (dtype, other) == (np.int8, np.uint8)
        assert (same, shifted) == (scale, zero + 128)
    assert [dtype for dtype, *_ in ends(plain)] == [np.float32, np.float32]
    expected = run(signed, IMAGES)
    np.testing.assert_array_equal(run(unsigned, IMAGES), expected)
    np.testing.assert_allclose(run(plain, IMAGES), expected, atol=1e-6)


def with_biases(model):
    """Numbers for the biases: the converter leaves out those that are zero."""
    numbers = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            with_biases(layer)
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(numbers.uniform(-0.1, 0.1, layer.bias.shape))
    return model


def ambiguous():
    """Names that TensorFlow's numbered scopes could mix up, in a model and one inside it."""
    inside = keras.Input((10, 10, 8))
    block = keras.Model(inside, layers.Conv2D(8, 3, name="conv_2")(inside), name="block")
    image = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, strides=2, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(8, 2, padding="same", activation="tanh", name="conv_1")(x)
    x = block(layers.AveragePooling2D(2, strides=1, name="pool")(x))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return with_biases(shake_norms(keras.Model(image, layers.Dense(4, name="scores")(x))))


@pytest.mark.parametrize(
    ("name", "operations", "io"),
    [
        ("conv", ["CONV_2D"], "int8"),
        ("conv", ["CONV_2D"], "uint8"),
        ("relu", ["CONV_2D"], "float32"),
        ("conv_1", ["CONV_2D", "TANH"], "int8"),
        ("conv_2", ["CONV_2D"], "int8"),
        ("block", ["CONV_2D"], "int8"),
        ("scores", ["FULLY_CONNECTED"], "float32"),
        ("scores", ["FULLY_CONNECTED"], "uint8"),
    ],
)
def test_a_layer_kept_in_float_is_the_only_one(name, operations, io):
    """LiteRT says of each operation which type it has, the Keras model what each layer weighs."""
    model = ambiguous()
    content = lower_as("int8", model, keep_float=[name], io=io)
    interpreter = Interpreter(model_content=content)
    types = {each["index"]: each["dtype"] for each in interpreter.get_tensor_details()}
    in_float = [
        each["op_name"]
        for each in interpreter._get_ops_details()
        if types[each["outputs"][0]] is np.float32
        and each["op_name"] not in {"QUANTIZE", "DEQUANTIZE", "DELEGATE"}
    ]
    assert in_float == operations
    layer = model.get_layer(name) if name != "conv_2" else model.get_layer("block")
    kernel = max([np.prod(w.shape) for w in layer.weights], default=27 * 8)
    assert weight_types(content)["FLOAT32"] == kernel + (4 if name == "scores" else 8)
    assert [dtype for dtype, *_ in ends(content)] == [np.dtype(io).type] * 2
    np.testing.assert_allclose(
        run(content, IMAGES), model.predict(IMAGES, verbose=0), atol=0.05, rtol=0.05
    )


@pytest.mark.full
def test_dynamic_with_a_layer_in_float_is_else_as_without():
    """TensorFlow leaves kernels under 1,024 weights in float, such as those of the scores here."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(64, 3, strides=4, activation="relu", name="first")(image)
    x = layers.Conv2D(32, 1, activation="relu", name="second")(x)
    model = keras.Model(image, layers.Dense(4, name="scores")(layers.GlobalMaxPooling2D()(x)))
    plain = weight_types(lower(model, "dynamic"))["FLOAT32"]
    assert 32 * 4 < plain < 1024
    content = lower(model, "dynamic", keep_float=["second"])
    assert weight_types(content)["FLOAT32"] == pytest.approx(plain + 64 * 32, abs=4)  # a bias of 0


@pytest.mark.full
@pytest.mark.parametrize("kind", ["weight_int8", "weight_int4"])
def test_weights_of_a_layer_kept_in_float(kind):
    model = ambiguous()
    content = lower(model, kind, keep_float=["conv_1", "scores"])
    kept = 4 * 8 * 8 + 8 * 4
    assert weight_types(content)["FLOAT32"] == kept + 8 + 8 + 8 + 4  # and all biases
    np.testing.assert_allclose(
        run(content, IMAGES), model.predict(IMAGES, verbose=0), atol=0.1, rtol=0.1
    )


@pytest.mark.parametrize("preprocessing", [TF, TORCH, CAFFE])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessing_inside_takes_pixels(preprocessing, channels):
    image = keras.Input((8, 8, channels))
    features = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(features)))
    pixels = np.random.default_rng(0).integers(1, 255, (60, 8, 8, channels)).astype(np.float32)
    images = preprocessing(pixels)
    expected = model.predict(images, verbose=0)
    span = np.ptp(expected)
    actual = run(lower(model, preprocessing=preprocessing), pixels)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * span)

    arguments = {"io": "uint8", "preprocessing": preprocessing}
    content = lower_as("int8", model, images, **arguments)
    assert ends(content)[0] == (np.uint8, 1.0, 0)  # one step is one of a pixel
    np.testing.assert_allclose(run(content, pixels), expected, atol=0.03 * span)
    assert images.min() > preprocessing(np.zeros_like(pixels)).min()  # they are left as they were


def dense_end(activation):
    return lambda x: layers.Dense(4, activation=activation)(x)  # noqa: PLW0108  # made when called


def layer_end(layer):
    return lambda x: layer(layers.Dense(4)(x))


def nested_end(x):
    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, layers.Dense(4, activation="softmax")(inside))(x)


@pytest.mark.parametrize(
    ("end", "gives"),
    [
        (dense_end(None), "logits"),
        (dense_end("softmax"), "probabilities"),
        (layer_end(layers.Softmax()), "probabilities"),
        (layer_end(layers.Activation("softmax")), "probabilities"),
        (nested_end, "probabilities"),
    ],
)
def test_scores_are_what_is_asked_for(end, gives):
    image = keras.Input(SHAPE)
    model = keras.Model(image, end(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image))))
    given_scores = model.predict(IMAGES, verbose=0)
    found = {each: run(lower(model, scores=each), IMAGES) for each in ("logits", "probabilities")}
    np.testing.assert_allclose(found[gives], given_scores, atol=1e-6)
    powers = np.exp(found["logits"])
    softmax = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], softmax, atol=1e-6)
    assert found["logits"].min() < 0
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), given_scores)


def test_a_sigmoid_gives_probabilities_and_logits():
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(3, activation="sigmoid")]
    )
    logits = run(lower(model, scores="logits"), IMAGES)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(run(lower(model, scores="probabilities"), IMAGES), expected, 1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Gate(layers.Layer):
    """Makes its own layer, and says nothing of precision to it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units, activation="sigmoid")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return inputs * self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.full
@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"]
)
def test_every_precision_gives_the_file_of_the_float32_twin(policy):
    def gated():
        image = keras.Input(SHAPE, dtype="float32")
        x = layers.Conv2D(8, 3, name="conv")(image)
        x = Gate(8, name="gate")(layers.BatchNormalization(name="norm")(x))
        x = layers.TimeDistributed(layers.Dense(4, name="inner"), name="wrapped")(x)
        return shake_norms(keras.Model(image, layers.GlobalMaxPooling2D(name="max")(x)))

    keras.config.set_dtype_policy(policy)
    model = gated()
    # The weights themselves are rounded in half precision.
    weights = [weight.astype("float32") for weight in map(np.asarray, model.get_weights())]
    content = lower(model)
    assert keras.config.dtype_policy().name == policy
    keras.config.set_dtype_policy("float32")
    twin = gated()
    twin.set_weights(weights)
    np.testing.assert_allclose(run(content, IMAGES), run(lower(twin), IMAGES), rtol=1e-6, atol=1e-6)


class Scale(layers.Layer):
    """Its config is not known."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class Bare(Scale):
    """Its config is not what it takes, as of a layer that nobody thought of saving."""

    def get_config(self):
        return {"name": self.name, "trainable": True, "dtype": "float32"}


@pytest.mark.parametrize("make", [layers.Lambda, Scale, Bare])
def test_layers_that_cannot_be_copied_convert_in_float32_alone(make):
    def model():
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image := keras.Input(SHAPE)))
        x = make(lambda values: values * 2.0, name="twice")(x)
        return shake_norms(keras.Model(image, layers.GlobalAveragePooling2D()(x)))

    plain = model()
    np.testing.assert_allclose(run(lower(plain), IMAGES), plain.predict(IMAGES, verbose=0), 1e-5)
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(
        InputError, match=r"'twice' \((Lambda|Scale|Bare)\) of model cannot be copied"
    ):
        lower(model())


def test_a_model_of_bytes_takes_their_numbers():
    image = keras.Input(SHAPE, dtype="uint8")
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    pixels = np.random.default_rng(0).integers(0, 256, (5, *SHAPE))
    expected = model.predict(pixels.astype(np.uint8), verbose=0)
    np.testing.assert_allclose(run(lower(model), pixels.astype(np.float32)), expected, atol=1e-5)


@pytest.mark.full
@settings(max_examples=5, deadline=None)
@given(
    size=st.tuples(st.integers(6, 20), st.integers(6, 20)),
    channels=st.integers(1, 4),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    activation=st.sampled_from(["relu6", "silu", "hard_silu", "gelu", "elu", None]),
    depthwise=st.booleans(),
    batch=st.sampled_from([1, None]),
)
def test_any_convolution_computes_as_keras(
    size, channels, kernel, stride, padding, activation, depthwise, batch
):
    keras.utils.clear_session()
    image = keras.Input((*size, channels))
    options = {"strides": stride, "padding": padding, "activation": activation}
    layer = (
        layers.DepthwiseConv2D(kernel, depth_multiplier=2, **options)
        if depthwise
        else layers.Conv2D(6, kernel, **options)
    )
    x = layers.BatchNormalization()(layer(image))
    model = shake_norms(keras.Model(image, layers.Dense(3)(layers.Flatten()(x))))
    images = np.random.default_rng(0).normal(size=(5, *size, channels)).astype(np.float32)
    actual = run(lower(model, batch=batch), images, 5 if batch is None else 1)
    np.testing.assert_allclose(actual, model.predict(images, verbose=0), atol=1e-4, rtol=1e-4)


@pytest.mark.full
def test_a_quantize_aware_model_has_its_own_ranges():
    model = quantize_aware(build(), IMAGES)
    content = lower(model, "int8", io="uint8", batch=None)
    assert [dtype for dtype, *_ in ends(content)] == [np.uint8, np.uint8]
    assert not any(each.computes_in_float for each in Graph.read(content).operators)
    step = ends(content)[1][1]
    np.testing.assert_allclose(
        run(content, IMAGES, 7), model.predict(IMAGES, verbose=0), atol=1.01 * step
    )
    with pytest.raises(InputError, match=r"quantize must be 'int8' .*got 'none'"):
        lower(model)
    changes = {
        "keep_float": {"keep_float": ["dense"]},
        "scores": {"scores": "logits"},
        "pixels": {"preprocessing": TF},
    }
    for name, change in changes.items():
        with pytest.raises(InputError, match=f"^{name} does not go with a model"):
            lower(model, "int8", **change)


def test_prepare_folds_the_norm_and_keeps_the_names():
    names = [layer.name for layer in prepare(ambiguous()).layers[1:]]
    assert names == ["conv", "relu", "conv_1", "pool", "block", "mean", "scores"]


@pytest.mark.full
def test_the_file_is_no_larger_than_the_one_of_the_converter_alone():
    model = build()
    assert len(lower(model)) <= len(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def model_of(function):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(function(image))))


def doubles(x):
    for function in ("sin", "cos", "tan", "atan", "sinh"):
        x = getattr(keras.ops, function.replace("atan", "arctan"))(keras.ops.cast(x, "float64"))
    return keras.ops.cast(x, "float32")


class Wrong(layers.Layer):
    """Fails as a layer does in Keras: in several lines, in colour."""

    def call(self, inputs):
        if inputs.shape[0] == 1:
            raise ValueError("no single images")
        return inputs


def recurrent():
    rows = layers.Reshape((8, 24))(image := keras.Input((8, 8, 3)))
    return keras.Model(image, layers.Dense(2)(layers.LSTM(4)(rows)))


def mapped():
    image = keras.Input((8, 8, 3))
    rows = layers.Lambda(lambda x: tf.map_fn(lambda row: row * 2, x))(image)
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(rows)))


def quantized():
    model = model_of(layers.Dense(4, name="fourth"))
    model.get_layer("fourth").quantize("int8")
    return model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "int8", "io": "int16"}, "io must be one of float32, int8, uint8, got 'int16'"),
        ({"io": "uint8"}, "io='uint8' works with quantize='int8' only, got 'none'"),
        ({"batch": 0}, "batch must be 1, or None.*got 0"),
        ({"scores": "softmax"}, "scores must be one of model, logits, prob.*got 'softmax'"),
        ({"kind": "dynamic", "keep_float": "dense"}, "list of layer names, got 'dense'"),
        ({"keep_float": ["dense"]}, "keep_float works with.*'int8'.* only, got 'none'"),
        ({"kind": "dynamic", "keep_float": ["convv"]}, "no layer 'convv'.*mean 'conv'"),
        ({"kind": "weight_int8", "keep_float": ["flat"]}, "layer 'flat' has no operator"),
        (
            {"preprocessing": Preprocessing((1.0, 2.0), 1.0)},
            r"preprocessing has mean \(1\.0, 2\.0\).*3 channels of model",
        ),
        ({"model": quantized}, "'fourth', that Keras quantized to int8"),
        (
            {"model": lambda: model_of(keras.ops.erf)},
            r"no built-in operator for: Erf\(tensor<1x8x8x3xf32>\)\. Use",
        ),
        ({"model": lambda: model_of(keras.ops.erfinv)}, "no built-in operator for: Erfinv"),
        ({"model": lambda: model_of(doubles)}, r"for: Atan\(.*f64>\), Cos\(.* and 2 more\. Use"),
        ({"model": lambda: model_of(Wrong())}, "model cannot be converted: no single images$"),
        *[
            ({"kind": kind, "model": recurrent}, "has a loop, .*while.*unroll=True")
            for kind in ("none", "dynamic", "int8", "int16x8", "weight_int8")
        ],
        ({"model": mapped}, "has a loop, .*while"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    if "model" in arguments:
        model = arguments.pop("model")()
    else:
        conv, flat = layers.Conv2D(4, 3, name="conv"), layers.Reshape((6, 6, 4), name="flat")
        model = model_of(lambda image: flat(conv(image)))
    images = np.random.default_rng(0).normal(size=(60, 8, 8, 3)).astype(np.float32)
    kind = arguments.pop("kind", "none")
    if kind in CALIBRATED:
        arguments["representative"] = images
    with pytest.raises(InputError, match=message) as caught:
        lower(model, kind, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "kernels/reshape.cc:94 192 != 256Node number 3 (RESHAPE) failed.",
            "kernels/reshape.cc:94",
        ),
        (
            "\nbusy\nloc(fused[\"a\"]): error: 'tfl.mul' op wants one type\nnote: see",
            "'tfl.mul' op wants",
        ),
        ("", "no reason given"),
    ],
)
def test_what_the_converter_says_becomes_one_line_and_is_kept(said, told):
    refused = pytest.raises(InputError, match=f"^model cannot be converted: {told}")
    with refused as caught, built_in_alone():
        raise RuntimeError(said)
    assert "\n" not in str(caught.value)
    assert str(caught.value.__cause__) == said


def test_an_end_that_does_not_tell_is_refused():
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3, "tanh")])
    with pytest.raises(InputError, match=r"scores='logits' needs.*ends in 'dense'"):
        lower(model, scores="logits")


@pytest.mark.full
def test_operations_without_an_int16_version_stay_in_float():
    image = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, activation="elu", name="conv")(image)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    content = lower_as("int16x8", model)
    assert [each.tensor for each in Graph.read(content).operators if each.computes_in_float]
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(run(content, IMAGES), expected, atol=0.02)


def test_the_largest_values_of_maps_are_right_in_calibrated_files():
    """int8 has them in integers; int16x8 computes them in float."""
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3)(image))
    model = with_biases(keras.Model(image, layers.Dense(3)(x)))
    expected = model.predict(IMAGES, verbose=0)
    for kind, bound in (("int8", 0.05), ("int16x8", 0.02)):
        error = run(lower_as(kind, model), IMAGES) - expected
        assert np.sqrt(np.mean(np.square(error))) < bound * expected.std()


@pytest.mark.full
@pytest.mark.parametrize("kind", [layers.Conv2D, layers.Conv2DTranspose, layers.Dense])
def test_equal_biases_of_int16_layers_are_right_in_each(kind):
    """They are one constant in TensorFlow's file, whose scale is that of one layer."""
    keras.utils.set_random_seed(0)
    arguments = {} if kind is layers.Dense else {"kernel_size": 3, "padding": "same"}
    x = image = keras.Input(SHAPE)
    for _ in range(3):
        x = kind(4, bias_initializer="ones", activation="relu", **arguments)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3)(x))
    expected = model.predict(IMAGES, verbose=0)
    error = run(lower_as("int16x8", model), IMAGES) - expected
    assert np.sqrt(np.mean(np.square(error))) < 0.05 * expected.std()


@pytest.mark.parametrize("name", ["conv_1", "scores"])
def test_int16_keeps_a_layer_in_float(name):
    """Its kernel is in float32, those of all other layers are in int8."""
    model = ambiguous()
    content = lower_as("int16x8", model, keep_float=[name])
    kernels = {"conv": 27 * 8, "conv_1": 4 * 8 * 8, "conv_2": 9 * 8 * 8, "scores": 8 * 4}
    found = weight_types(content)
    assert found["FLOAT32"] == kernels[name] + (4 if name == "scores" else 8)
    assert found["INT8"] == sum(kernels.values()) - kernels[name]
    assert [dtype for dtype, *_ in ends(content)] == [np.float32, np.float32]
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(run(content, IMAGES), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", CALIBRATED)
def test_one_layer_at_least_computes_in_integers(kind):
    x = layers.GlobalAveragePooling2D(name="mean")(image := keras.Input(SHAPE))
    model = keras.Model(image, layers.Dense(4, name="scores")(x))
    with pytest.raises(InputError, match=f"keep_float names all layers that {kind} can"):
        lower_as(kind, model, keep_float=["mean", "scores"])


@pytest.mark.full
def test_a_layer_that_is_called_twice_has_a_bias_for_each_call():
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(3, 3, padding="same", activation="relu")
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(conv(conv(image)))
    model = keras.Model(image, layers.Dense(3)(x))
    conv.bias.assign([3.0, -2.0, 1.0])
    expected = model.predict(IMAGES, verbose=0)
    error = run(lower_as("int16x8", model), IMAGES) - expected
    assert np.sqrt(np.mean(np.square(error))) < 0.05 * expected.std()
