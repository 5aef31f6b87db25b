"""Fake quantisation against arithmetic in NumPy, and whole networks against their int8 files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_archs
from keras_archs.errors import InputError
from keras_archs.graph import inner_layers
from keras_archs.transforms.quantization import (
    FakeQuantize,
    QuantizationRange,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from tests.tflite_export.fitted_networks import images as samples
from tests.tflite_export.fitted_networks import network
from tests.tflite_export.networks import CLASSES, SHAPE, build, stripes
from tflite_export import is_quantize_aware, quantize_aware
from tflite_export.lowering.from_aware import to_int8

IMAGES = stripes(60)[0]


def rounding(low, high):
    """A range of these ends, and what it makes of values."""
    ends = QuantizationRange()
    ends.build((None,))
    ends.low.assign(low)
    ends.high.assign(high)
    return lambda values: FakeQuantize()(values, ends(values))


@settings(max_examples=50, deadline=None)
@given(st.just(0.0) | st.floats(-100, -0.01), st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_a_tensor_is_rounded_to_256_steps_with_a_zero(low, high, seed):
    """As TFLite does it: `real = scale * (q - zero)` with integers `zero` and q of uint8."""
    values = np.random.default_rng(seed).uniform(1.5 * low - 1, 1.5 * high, 200).astype("float32")
    rounded = np.asarray(rounding(low, high)(values), "float64")
    low, high = np.float32(low).astype(float), np.float32(high).astype(float)
    zeros = np.arange(256)
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = np.fmax(-low / zeros, high / (255 - zeros))
    zero = scales.argmin()  # of all ranges that hold both ends
    scale = scales[zero]
    expected = scale * (np.clip(np.rint(values / scale + zero), 0, 255) - zero)
    steps = np.abs(rounded - expected) / scale
    ties = np.abs((values / scale + zero) % 1 - 0.5) < 1e-3
    assert (steps < np.where(ties, 1.001, 1e-3)).all()
    assert scale <= 1.004 * (high - low) / 255
    ends = np.asarray(rounding(low, high)(np.array([low, 0, high], "float32")))
    assert ends[1] == 0
    np.testing.assert_allclose(ends[[0, 2]], [low, high], atol=0.501 * scale)


@pytest.mark.parametrize("high", [1e-4, 1e-3, 1.0])
@pytest.mark.parametrize("low", [-2049.0, -3000.0, -1e6])
def test_a_tensor_far_below_zero_is_rounded_to_256_steps_too(low, high):
    found = np.asarray(rounding(low, high)(np.array([low, low / 3, 0, high], "float32")))
    np.testing.assert_allclose(found, [low, low / 3, 0, 0], atol=-low / 254)


def test_gradients_pass_a_range_straight_and_end_outside():
    rounded = rounding(-1.0, 3.0)
    values = tf.constant([-1.5, -0.99, 0.013, 2.99, 3.5])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(rounded(values) * [1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(tape.gradient(total, values), [0, 2, 3, 4, 0])


def test_a_range_follows_training_alone():
    ends, batch = QuantizationRange(), np.array([-3.0, 0.5, 5.0], "float32")
    ends.build((None,))
    ends.low.assign(-1.0)
    ends.high.assign(1.0)
    ends(batch)
    ends(batch, training=True, moves=False)
    assert (ends.low, ends.high) == (-1.0, 1.0)
    ends([batch[:2], batch[2:]], training=True)
    np.testing.assert_allclose([ends.low, ends.high], [-1.02, 1.04], rtol=1e-6)
    fixed = QuantizationRange(limits=(0.0, 255 / 256))(batch, training=True)
    values = FakeQuantize()(np.array([0.3, 2.0], "float32"), fixed)
    np.testing.assert_allclose(values, [77 / 256, 255 / 256])


@pytest.mark.parametrize(
    ("layer", "plain", "axes"),
    [
        (QuantizedConv2D(5, 3), layers.Conv2D(5, 3), (0, 1, 2)),
        (QuantizedDepthwiseConv2D(3, depth_multiplier=2, strides=2), None, (0, 1)),
        (QuantizedDense(5, activation="relu"), layers.Dense(5, activation="relu"), (0,)),
    ],
)
def test_weights_are_rounded_by_channel(layer, plain, axes):
    """A bias has the steps of the products of inputs and kernel, as TFLite adds it to them."""
    plain = plain or layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)
    ends = tf.constant(-128 * 0.02), tf.constant(127 * 0.02)
    images = 0.02 * np.random.default_rng(0).integers(-100, 100, (2, 7, 7, 3)).astype("float32")
    layer(images, ends)
    kernel, _ = layer.get_weights()
    kernel *= np.geomspace(0.01, 100, kernel.shape[-1], dtype="float32")
    kernel[..., 0] = 0  # a dead channel divides by nothing
    scale = np.abs(kernel).max(axes, keepdims=True) / 127
    scale = np.where(scale, scale, 1 / 127)
    steps = 0.02 * scale.ravel()
    layer.set_weights([kernel, 20.4 * steps])
    plain.build(images.shape)
    plain.set_weights([np.rint(kernel / scale) * scale, 20 * steps])
    outputs, sums, unit = layer(images, ends)
    np.testing.assert_allclose(outputs, plain(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(sums, np.rint(sums))
    np.testing.assert_allclose(outputs, layer.activation(sums * unit), rtol=1e-6)
    with tf.GradientTape(persistent=True) as tape:
        sums = tf.reduce_sum(layer(images, ends)[0] ** 2), tf.reduce_sum(plain(images) ** 2)
    for place in range(2):
        ours, theirs = (
            tape.gradient(total, each.trainable_variables[place].value)
            for total, each in zip(sums, (layer, plain), strict=True)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def mobilenet():
    return keras_archs.create_model(
        "mobilenet", alpha=0.25, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )


def residual():
    """Convolutions with batch norms, a sum of three, and a batch norm that no convolution takes."""
    source = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(source)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(y))
    x = layers.ReLU()(layers.Add()([x, y, layers.Conv2D(8, 1)(x)]))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return classifier(source, x)


def separable():
    """Activations behind convolutions in two, and behind a sum that goes around them."""
    source = keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.SeparableConv2D(16, 3, padding="same")(source))
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    y = layers.SeparableConv2D(16, 3, padding="same")(layers.ReLU()(x))
    x = layers.Add()([x, layers.SeparableConv2D(16, 3, padding="same")(layers.ReLU()(y))])
    y = layers.SeparableConv2D(16, 3, padding="same")(layers.ReLU()(x))
    return classifier(source, layers.Add()([x, y]))


def gated():
    """Swish, hard-swish, and squeeze-and-excitation by both kinds of gates."""
    source = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="swish")(source)
    x = keras_archs.layers.SqueezeExcite(0.5, activation="silu")(x)
    x = layers.SeparableConv2D(8, 3, activation="hard_silu")(x)
    x = keras_archs.layers.SqueezeExcite(0.5, gate_activation="hard_sigmoid", name="gate")(x)
    return classifier(source, x)


def branches():
    """Pooling and concatenation, of maps that others use as well and of those that none does."""
    source = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu")(layers.ZeroPadding2D(1)(source))
    parts = [layers.AveragePooling2D(2)(x), layers.MaxPooling2D(2)(x)]
    parts += [layers.Conv2D(4, 3, strides=2, padding="same", activation="relu6")(x)]
    x = layers.Concatenate()(parts)
    x = layers.Concatenate()([x, layers.Conv2D(4, 1)(x), layers.Activation("sigmoid")(x)])
    inner = keras.Input(x.shape[1:])
    nested = keras.Model(inner, layers.Conv2D(8, 1)(inner) * 0.5, name="nested")
    return classifier(source, layers.LeakyReLU()(nested(x)))


def attentive():
    """A non-local block: our own dense layers, softmax, and products of what is computed."""
    source = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(source)
    return classifier(source, keras_archs.layers.NonLocalBlock()(x))


def arithmetic():
    """Sums, differences and products of maps of different ranges, and means of rows."""
    source = keras.Input((16, 16, 3))
    x, y, z = (
        layers.Conv2D(8, 3, strides=2, use_bias=bias)(source) for bias in (True, False, True)
    )
    x = layers.Subtract()([x, layers.Multiply()([y, z])])
    x = layers.Add()([layers.ReLU(6)(x), y])
    return classifier(source, x - ops.mean(z, axis=2, keepdims=True))


def classifier(source, x):
    return keras.Model(source, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def as_trained(model):
    """Weights of usual sizes off their start, which would hide wrong folds."""
    numbers = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(numbers.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(numbers.normal(0, 0.2, weight.shape))
    return model


@pytest.mark.parametrize(
    "make", [mobilenet, residual, separable, gated, arithmetic, branches, attentive]
)
def test_the_file_computes_as_the_model_does(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = as_trained(make())
    images = samples("mobilenet", model.input_shape[1], fitted=64, tested=1).train
    names = [layer.name for layer in inner_layers(model)]
    aware = quantize_aware(model, images)
    expected = np.asarray(aware(images))
    # The model itself stays as it is, layers within layers included.
    assert [layer.name for layer in inner_layers(model)] == names
    assert 0 < np.abs(expected - np.asarray(model(images))).max() < 0.1 * np.ptp(expected)
    aware.save(tmp_path / "aware.keras")
    loaded = keras.saving.load_model(tmp_path / "aware.keras")
    assert is_quantize_aware(loaded)
    assert not is_quantize_aware(model)
    np.testing.assert_array_equal(loaded(images), expected)

    interpreter = open_file(to_int8(loaded))
    types = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert types <= {np.int8, np.int32}
    # TFLite's own kernels round twice, and up what lies just below the middle of two steps.
    assert steps_off(interpreter, images, expected).max() <= (4 if make is arithmetic else 2)
    steps = steps_off(open_file(to_int8(loaded), OpResolverType.AUTO), images, expected)
    # Of what `attentive` has, products of matrices and softmax are TFLite's own kernels'.
    assert steps.max() <= (1 if make is attentive else 0)
    assert np.mean(steps == 0) > 0.98
    scale, _ = interpreter.get_output_details()[0]["quantization"]
    assert np.ptp(expected) > 100 * scale, "the outputs are flat: a comparison would say nothing"


def steps_off(interpreter, images, expected):
    """By how many steps a file's outputs are off those of the model."""
    scale, zero = interpreter.get_output_details()[0]["quantization"]
    return np.abs(run(interpreter, images) - (np.rint(expected / scale) + zero))


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        ("mobilenet", 32, {"alpha": 0.25}),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("vgg11", 32, {"batch_norm": True}),
                ("inceptionv1", 48, {"batch_norm": True}),
                ("resnet50", 32, {}),
                ("mobilenetv3small", 48, {}),
                ("efficientnetb0", 48, {}),
                ("seresnet50", 32, {}),
            )
        ),
    ],
)
def test_a_deep_network_computes_as_its_file(name, side, options):
    """As in a trained network, one value on another step would show in all behind it."""
    data = samples(name, side, tested=50)
    aware = quantize_aware(network(name, data, **options), data.train[:128])
    interpreter = open_file(to_int8(aware), OpResolverType.AUTO)
    # As a graph, as it is trained: TensorFlow must not compute it otherwise.
    expected = aware.predict(data.test, verbose=0)
    assert steps_off(interpreter, data.test, expected).max() == 0


def open_file(content, kernels=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
    """With TFLite's own kernels; `OpResolverType.AUTO` has XNNPACK's, which are the default."""
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter, images):
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = source["quantization"]
    outputs = []
    for image in images:
        steps = np.clip(np.rint(image / np.float32(scale)) + zero, -128, 127)
        interpreter.set_tensor(source["index"], steps[None].astype(np.int8))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0])
    return np.array(outputs)


def test_the_file_has_the_models_ranges():
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.DepthwiseConv2D(3, activation="relu")])
    model.add(layers.Flatten())
    model.add(layers.Dense(3, activation="softmax"))
    images = samples("mobilenet", 4, fitted=50, tested=1).train[..., :2]
    images[0, 0, 0] = -1, 1
    aware = quantize_aware(model, images)
    found = {t["name"]: t["quantization_parameters"] for t in details(to_int8(aware))}
    scales = [each["scales"] for each in found.values()]
    for layer in (model.layers[0], model.layers[-1]):
        kernel = layer.get_weights()[0]
        kernel = kernel.reshape(-1, kernel.shape[-1] if len(kernel.shape) == 2 else 2)
        expected = np.abs(kernel).max(0) / 127
        assert any(s.shape == expected.shape and np.allclose(s, expected, 1e-5) for s in scales)
    interpreter = open_file(to_int8(aware))
    # 255 steps of 1/127 from -1 on hold zero and 1; those from -1 to 1 would not hold zero.
    assert interpreter.get_input_details()[0]["quantization"] == (pytest.approx(1 / 127), -1)
    # The softmax is not rounded in the model, and has the range that TFLite prescribes in the file.
    assert interpreter.get_output_details()[0]["quantization"] == (1 / 256, -128)
    sums = np.asarray(aware(images)).sum(1)
    np.testing.assert_allclose(sums, 1, rtol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize(
    "largest", [0.3, 3.7, 90.0, *(pytest.param(n, marks=pytest.mark.slow) for n in (2.9, 11.0))]
)
@pytest.mark.parametrize(
    ("function", "above"),
    [
        *[(name, 1 / 2) for name in ("hard_silu", "leaky_relu", "silu", "hard_sigmoid")],
        *[(name, 1 / 2) for name in ("sigmoid", "tanh", "relu")],
        # 96 steps above zero become 255: three of them end halfway between two.
        ("relu", 96 / 159),
    ],
)
def test_an_activation_gives_the_files_integers_for_each_input(function, above, largest):
    source = keras.Input((1, 1, 256))
    x = layers.Activation(function)(source)
    images = np.linspace(-largest, above * largest, 256, dtype="float32").reshape(1, 1, 1, -1)
    aware = quantize_aware(keras.Model(source, layers.Flatten()(x)), images)
    interpreter = open_file(to_int8(aware), OpResolverType.AUTO)
    steps = steps_off(interpreter, images, aware.predict(images, verbose=0))
    assert steps.max() == 0


@pytest.mark.full
def test_the_file_has_the_models_weights():
    """All of them: the converter's own arithmetic differs in the last bit, which moves some."""
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(0, 0.05, (16, 3000)).astype("float32")
    bias = numbers.normal(0, 1, 3000).astype("float32")
    source = keras.Input((1, 1, 16))
    dense = layers.Dense(3000)
    model = keras.Model(source, dense(layers.Flatten()(source)))
    dense.set_weights([kernel, bias])
    images = numbers.uniform(-1, 1, (50, 1, 1, 16)).astype("float32")
    interpreter = open_file(to_int8(quantize_aware(model, images)))
    tensors = interpreter.get_tensor_details()
    step = np.float32(interpreter.get_input_details()[0]["quantization"][0])
    steps = np.abs(kernel).max(0) / np.float32(127)
    expected = {(3000, 16): np.rint(kernel / steps).T, (3000,): np.rint(bias / (steps * step))}
    for shape, numbers in expected.items():
        (index,) = [each["index"] for each in tensors if tuple(each["shape"]) == shape]
        np.testing.assert_array_equal(interpreter.get_tensor(index), numbers)


@pytest.mark.full
@pytest.mark.parametrize("make", [pytest.param(gated, marks=pytest.mark.slow), branches])
def test_a_model_can_be_cut_behind_each_tensor(make):
    aware = quantize_aware(make(), samples("mobilenet", 16, fitted=50, tested=1).train)
    images = samples("mobilenet", 16, tested=8).test
    expected, cut = aware(images), 0
    for layer in aware.layers:
        if not isinstance(layer, FakeQuantize):
            continue
        begin = keras.Model(aware.input, layer.output)
        values = begin(images)
        assert values.shape[0] == len(images)
        try:
            end = keras.Model(layer.output, aware.output)
        except ValueError:
            continue  # other tensors go around this one
        np.testing.assert_array_equal(end(values), expected)
        np.testing.assert_array_equal(end.predict(values, verbose=0), expected)
        cut += 1
    assert cut >= 5


def details(content):
    return open_file(content).get_tensor_details()


@pytest.mark.full
def test_types_of_input_and_output_and_open_batches():
    aware = quantize_aware(build(), IMAGES)
    for io, dtype in {"float32": np.float32, "uint8": np.uint8}.items():
        interpreter = open_file(to_int8(aware, io, batch=None))
        assert interpreter.get_input_details()[0]["dtype"] == dtype
        assert interpreter.get_output_details()[0]["dtype"] == dtype
    interpreter = open_file(to_int8(aware, "float32", batch=None))
    predict = interpreter.get_signature_runner()
    scores = predict(image=IMAGES[:7])["scores"]
    np.testing.assert_allclose(scores, aware(IMAGES[:7]), atol=1.01 / 256)


@pytest.mark.full
def test_training_recovers_what_rounding_costs():
    """A weight that does nothing leaves the others of its channel a step or two."""
    source = keras.Input(SHAPE)
    x = layers.Conv2D(12, 3, strides=2, activation="relu", name="first")(source)
    x = layers.Conv2D(24, 3, strides=2, activation="relu", name="second")(x)
    scores = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(source, scores)
    (images, labels), test = stripes(1500), stripes(400, seed=1)
    learn(model, 0.01, images, labels, epochs=4)
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 0], bias[0] = 0, -1
    model.get_layer("first").set_weights([kernel, bias])
    kernel, bias = model.get_layer("second").get_weights()
    kernel[1, 1, 0] = 120
    model.get_layer("second").set_weights([kernel, bias])

    aware = quantize_aware(model, images[:200])
    before = accuracy(aware, *test)
    learn(aware, 0.005, images, labels, epochs=3)
    after = accuracy(aware, *test)
    assert accuracy(model, *test) > 0.95
    assert before < accuracy(model, *test) - 0.05
    assert after > accuracy(model, *test) - 0.02
    found = run(open_file(to_int8(aware)), test[0]).argmax(1)
    assert np.mean(found == test[1]) > after - 0.01


def learn(model, rate, images, labels, epochs):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)


def accuracy(model, images, labels):
    return np.mean(np.asarray(model(images)).argmax(1) == labels)


def test_mixed_precision_becomes_float32_and_frozen_layers_stay_so():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras_archs.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), classes=5)
    model.get_layer("conv1").trainable = False
    aware = quantize_aware(model)
    assert {layer.compute_dtype for layer in aware.layers[1:]} == {"float32"}
    assert not aware.get_layer("conv1").trainable
    assert aware.get_layer("conv_dw_1").trainable


@pytest.mark.full
def test_constants_of_preprocessing_do_not_learn_and_batch_norms_do():
    source = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 127.5, -1, name="scaled")(source)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0], name="normal")(x)
    x = layers.BatchNormalization(name="norm")(layers.Activation("sigmoid")(x))
    aware = quantize_aware(classifier(source, x))
    found = {name: bool(aware.get_layer(name).trainable_weights) for name in ("scaled", "normal")}
    assert found == {"scaled": False, "normal": False}
    assert aware.get_layer("norm").trainable_weights


@keras.saving.register_keras_serializable()
class Odd(layers.Layer):
    """What it computes, nobody knows."""

    def call(self, x):
        return x


def behind(layer):
    source = keras.Input((8, 8, 3))
    return keras.Model(source, layers.Flatten()(layer(source)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: behind(Odd(name="strange")), r"strange \(Odd\) cannot be trained for int8"),
        (lambda: behind(layers.Conv2D(2, 3, activation="selu")), "activation .*selu.* no int8"),
        (
            lambda: behind(keras_archs.layers.MultiHeadSelfAttention2D(1, name="heads")),
            r"heads \(MultiHeadSelfAttention2D\).*weights of its own, outside its layers",
        ),
        (
            lambda: keras_archs.create_model(
                "vgg16",
                input_shape=(32, 32, 3),
                include_preprocessing=True,
                include_top=False,
                pooling="avg",
            ),
            r"PreprocessInput.*order of the channels",
        ),
        (lambda: quantize_aware(build()), "already"),
    ],
)
def test_what_cannot_be_trained_is_named(make, message):
    with pytest.raises(InputError, match=message):
        quantize_aware(make())


def two_outputs():
    source = keras.Input(SHAPE)
    return keras.Model(source, [layers.Dense(2)(layers.Flatten()(source)) for _ in range(2)])


@pytest.mark.parametrize("images", [None, IMAGES], ids=["none", "images"])
@pytest.mark.parametrize(
    "make", [keras.Model, lambda: keras.Sequential([layers.Dense(2)]), two_outputs]
)
def test_models_that_are_no_classifier_are_refused(make, images):
    with pytest.raises(InputError, match="built functional"):
        quantize_aware(make(), images)


def test_images_must_fit():
    with pytest.raises(InputError, match="representative must be of shape"):
        quantize_aware(build(), IMAGES[:, 1:])
    noise = np.random.default_rng(0).normal(0, 1, IMAGES.shape).astype("float32")
    with pytest.raises(InputError, match="representative must be real images, got noise"):
        quantize_aware(build(), noise)
