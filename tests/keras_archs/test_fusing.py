"""Folded networks: fewer layers, the same outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_archs
import tflite_export
from tests.keras_archs.helpers import assert_close, images, randomize
from tests.keras_archs.test_builders import build, size_of

# Networks that differ in what there is to fold.
CASES = (
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
    "mobilenetv4hybridmedium",
    "efficientnetb0",
    "efficientnetv2b0",
    "resnet18",
    "resnet18v2",
    "resnetrs50",
    "nonlocalresnet50",
    "botnet50",
    "aaresnet50",
    "coatnet0",
    "vgg11",
    "vgg11_bn",
    "inceptionv1",
    "inceptionv3",
    "xception",
)


def norms(model):
    kind = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


# Batch norms that no convolution stands in front of: they follow an addition or a concatenation.
KEPT = {
    "resnet18v2": 9,
    "coatnet0": 5,
    "mobilenetv4hybridmedium": 8,
    "botnet50": 3,
    "aaresnet50": 13,
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_network(case):
    size = size_of(case)
    model = build(case, input_shape=(size, size, 3), classes=7, classifier_activation=None)
    randomize(model)
    fused = keras_archs.fuse(model)
    x = images(size)
    assert_close(np.asarray(fused(x)), np.asarray(model(x)), 1e-4)
    assert len(norms(fused)) == KEPT.get(case, 0)
    if norms(model):
        assert fused.count_params() < model.count_params()


@pytest.mark.full
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0", "Xception", "DenseNet121"])
def test_networks_of_keras_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(96, 96, 3), classes=7, classifier_activation=None
    )
    randomize(model)
    fused = keras_archs.fuse(model)
    x = 127 * images(96)
    assert_close(np.asarray(fused(x)), np.asarray(model(x)), 1e-4)
    # DenseNet normalises before it convolves.
    assert len(norms(fused)) < len(norms(model)) / 2 + 3


def test_parallel_branches_become_one_convolution():
    """The block of RepVGG, from its paper: 3x3, 1x1 and the identity, each with a batch norm."""
    inputs = keras.Input((None, None, 6))
    three = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="three")(inputs)
    one = keras.layers.Conv2D(6, 1, name="one")(inputs)
    branches = [keras.layers.BatchNormalization()(three), keras.layers.BatchNormalization()(one)]
    summed = keras.layers.Add(name="sum")([inputs, *branches])
    outputs = keras.layers.ReLU()(summed)
    model = keras.Model(inputs, outputs)
    randomize(model)
    fused = keras_archs.fuse(model)
    assert [layer.name for layer in fused.layers if layer.weights] == ["three"]
    assert "sum" not in [layer.name for layer in fused.layers]
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 6)).astype("float32")
    np.testing.assert_allclose(fused(x), model(x), atol=1e-5)


def test_what_is_used_twice_stays():
    inputs = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    a = keras.layers.BatchNormalization(name="a")(shared(inputs))
    b = keras.layers.BatchNormalization(name="b")(shared(a))
    seen = keras.layers.Conv2D(3, 3, padding="same", name="seen")(b)
    c = keras.layers.BatchNormalization(name="c")(seen)
    model = keras.Model(inputs, [keras.layers.Add()([seen, c]), b])
    randomize(model)
    fused = keras_archs.fuse(model)
    assert norms(fused) == ["a", "b", "c"]
    x = images(8)
    for ours, theirs in zip(fused(x), model(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_convolutions_that_do_not_lie_alike_are_added_as_before():
    inputs = keras.Input((9, 9, 4))
    strided = [
        keras.layers.Conv2D(4, kernel, strides=2, padding="same")(inputs) for kernel in (3, 1)
    ]
    other = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    further = keras.layers.Conv2D(4, 3, padding="same")(other)
    outputs = [keras.layers.Add()(strided), keras.layers.Add()([inputs, further])]
    model = keras.Model(inputs, outputs)
    fused = keras_archs.fuse(model)
    assert len(fused.layers) == len(model.layers)
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype("float32")
    for ours, theirs in zip(fused(x), model(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_model_inside_a_model_is_folded_too():
    inner = build("mobilenet", input_shape=(32, 32, 3), include_top=False, pooling="avg")
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Dropout(0.5)(inner(inputs)))
    model = keras.Model(inputs, outputs)
    randomize(model)
    fused = keras_archs.fuse(model)
    assert norms(fused.get_layer(inner.name)) == []
    assert_close(np.asarray(fused(images(32))), np.asarray(model(images(32))), 1e-5)


@pytest.mark.full
def test_the_model_itself_stays_and_the_copy_saves_and_exports(tmp_path):
    model = build("mobilenetv3small", input_shape=(64, 64, 3), classes=5)
    randomize(model)
    before = model.get_weights()
    fused = keras_archs.fuse(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    x = images(64)
    fused.save(tmp_path / "fused.keras")
    loaded = keras.saving.load_model(tmp_path / "fused.keras")
    np.testing.assert_array_equal(loaded(x), fused(x))
    fused.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-5)
    file = tmp_path / "fused.tflite"
    tflite_export.convert(fused).save(file)
    np.testing.assert_allclose(tflite_export.Classifier(file).predict(x), model(x), atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_stays(policy):
    keras.config.set_dtype_policy(policy)
    model = build("resnet18", input_shape=(32, 32, 3), classes=5)
    randomize(model)
    fused = keras_archs.fuse(model)
    assert {layer.dtype_policy.name for layer in fused.layers} == {policy, "float32"}
    np.testing.assert_allclose(fused(images(32)), model(images(32)), atol=0.03)


class Standardized(keras.layers.Conv2D):
    """A convolution whose kernel is not the one it filters with."""

    def call(self, inputs):
        kernel = self.kernel - keras.ops.mean(self.kernel)
        return keras.ops.conv(inputs, kernel, padding="valid")


def branches_of_other_widths(x):
    wide, narrow = (keras.layers.Conv2D(n, 1)(x) for n in (9, 1))
    return keras.layers.Add()([wide, narrow])


@pytest.mark.parametrize(
    "network",
    [
        lambda x: keras.layers.BatchNormalization()(Standardized(4, 3)(x)),
        lambda x: keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(6, 3)(x)),
        lambda x: keras.layers.BatchNormalization()(keras.layers.SeparableConv2D(4, 3)(x)),
        lambda x: keras.layers.BatchNormalization()(keras.layers.Conv2DTranspose(4, 3)(x)),
        lambda x: keras.layers.BatchNormalization()(
            keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, groups=2)(x))
        ),
        lambda x: keras.layers.BatchNormalization()(
            keras.layers.Conv2D(4, 3)(inputs=x), training=True
        ),
        lambda x: keras.layers.BatchNormalization()(inputs=keras.layers.Conv2D(4, 3)(inputs=x)),
        lambda x: keras.layers.Dense(3, use_bias=False)(keras.layers.Flatten()(x)),
        branches_of_other_widths,
        lambda x: keras.layers.Add()([keras.layers.Conv2D(2, 1)(x[..., :1]), x[..., :1]]),
        lambda x: keras.layers.Add()([x, keras.layers.Conv2D(2, 3, padding="same")(x), x]),
        lambda x: keras.ops.relu(keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(x))),
        keras.Sequential(
            [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()],
            name="nested",
        ),
        lambda x: keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()])(
            x, training=True
        ),
    ],
)
def test_networks_of_all_kinds_keep_their_outputs(network):
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, network(inputs))
    randomize(model)
    fused = keras_archs.fuse(model)
    assert fused.count_params() <= model.count_params()
    # A batch norm that was told to train moves its statistics with each call.
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype("float32")
    np.testing.assert_allclose(fused(x), model(x), rtol=1e-4, atol=1e-5)
    assert not {id(v) for v in fused.variables} & {id(v) for v in model.variables}


def test_casts_stay():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(5, 1, dtype="mixed_bfloat16")(inputs)
    outputs = keras.layers.Activation("linear", dtype="float32")(x)
    assert keras_archs.fuse(keras.Model(inputs, outputs)).output.dtype == "float32"


def test_quantized_layers_stay():
    inputs = keras.Input((12,))
    outputs = keras.layers.BatchNormalization()(keras.layers.Dense(5)(inputs))
    model = keras.Model(inputs, outputs)
    randomize(model)
    model.quantize("int8")
    x = np.random.default_rng(0).normal(size=(3, 12)).astype("float32")
    np.testing.assert_allclose(keras_archs.fuse(model)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_another_policy_for_the_maps(policy):
    model = build("mobilenetv3small", input_shape=(64, 64, 3), classes=5)
    randomize(model)
    fused = keras_archs.fuse(model, policy)
    assert fused.output.dtype == "float32"
    assert {layer.compute_dtype for layer in fused.layers if layer.weights} == {policy[6:]}
    np.testing.assert_allclose(fused(images(64)), model(images(64)), atol=0.03)
    np.testing.assert_array_equal(
        np.argmax(fused(images(64)), -1), np.argmax(model(images(64)), -1)
    )


def test_unknown_policy():
    model = build("mobilenet", input_shape=(32, 32, 3), include_top=False)
    with pytest.raises(ValueError, match=r"policy.*'mixed_bfloat16'.*'bf16'"):
        keras_archs.fuse(model, "bf16")


def test_models_that_are_not_functional_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="functional"):
        keras_archs.fuse(Own())
