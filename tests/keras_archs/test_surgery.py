"""Blocks inserted in any model: weights, outputs and everything a model can do stay."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_archs
import tflite_export
from keras_archs import NonLocalBlock, SqueezeExcite
from tests.keras_archs.helpers import images, randomize

# (model, place, names of the blocks)
MODELS = [
    (
        lambda: keras_archs.ResNet18(input_shape=(64, 64, 3), classes=5),
        "conv4_block1_out",
        ["conv4_block1_out_non_local_block"],
    ),
    (
        lambda: keras_archs.MobileNet(alpha=0.25, input_shape=(64, 64, 3), classes=5),
        ["conv_pw_3_relu", 4],
        ["conv_pw_3_relu_non_local_block", "conv_pw_11_relu_non_local_block"],
    ),
    (
        lambda: keras.applications.MobileNetV2(weights=None, alpha=0.35, classes=5),
        "block_1[45]_add",
        ["block_14_add_non_local_block", "block_15_add_non_local_block"],
    ),
    (
        lambda: keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=5),
        3,
        ["block3b_add_non_local_block"],
    ),
]
IDS = ["ResNet18", "MobileNet", "theirs MobileNetV2", "theirs EfficientNetB0"]


@pytest.mark.parametrize("pairing", ["gaussian", "embedded_gaussian"])
@pytest.mark.parametrize(("build", "place", "names"), MODELS, ids=IDS)
def test_identity_leaves_the_outputs_bit_equal(build, place, names, pairing):
    model = build()
    randomize(model)
    before = model.get_weights()
    x = 100 * images(model.input_shape[1] or 64)
    result = keras_archs.insert(model, NonLocalBlock(pairing), after=place)
    inserted = [layer.name for layer in result.layers if isinstance(layer, NonLocalBlock)]
    assert inserted == names
    np.testing.assert_array_equal(result(x), model(x))
    assert result.name == model.name
    assert [i.shape for i in result.inputs] == [i.shape for i in model.inputs]
    theirs = [layer.name for layer in model.layers]
    assert [layer.name for layer in result.layers if layer.name not in names] == theirs

    # The first model is a model of its own.
    for weight in result.trainable_weights:
        weight.assign(weight + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.full
@pytest.mark.parametrize(
    ("build", "place", "names"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if name.startswith("theirs") else [])
        for case, name in zip(MODELS, IDS, strict=True)
    ],
)
def test_result_trains_saves_loads_clones(build, place, names, tmp_path):
    model = keras_archs.insert(build(), NonLocalBlock(), after=place)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    x = images(model.input_shape[1], count=4)
    gammas = [model.get_layer(name).norm.gamma for name in names]
    model.train_on_batch(x, np.arange(4))
    assert all(np.any(gamma) for gamma in gammas), "no gradient reached the block"

    expected = model(x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", expected)
    model.save(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), expected)
    code = (
        "import keras, keras_archs, numpy as np;"
        "model = keras.saving.load_model('model.keras');"
        "np.testing.assert_allclose(model(np.load('x.npy')), np.load('y.npy'), atol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.full
def test_result_is_exported():
    model = keras_archs.MobileNet(alpha=0.25, input_shape=(32, 32, 3), classes=5)
    for block in (NonLocalBlock(), SqueezeExcite(), keras_archs.GlobalContext()):
        model = keras_archs.insert(model, block, after=3)
    randomize(model)
    x = images(32, count=1)
    got = tflite_export.Classifier(tflite_export.convert(model).content).predict(x)
    np.testing.assert_allclose(got, model(x), atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize(
    ("build", "place", "names"),
    [
        pytest.param(*MODELS[1], id=IDS[1]),
        pytest.param(*MODELS[2], id=IDS[2], marks=pytest.mark.slow),
    ],
)
def test_exports_compute_what_the_model_does(build, place, names, tmp_path):
    model = keras_archs.insert(build(), NonLocalBlock(), after=place)
    randomize(model)
    for name in names:  # off the zeros that make the block the identity
        gamma = model.get_layer(name).norm.gamma
        gamma.assign(np.random.default_rng(0).uniform(0.5, 1.5, gamma.shape))
    x = images(model.input_shape[1], count=1)
    expected = model(x)
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(saved.serve(x), expected, atol=1e-5)
    got = tflite_export.Classifier(tflite_export.convert(model).content).predict(x)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def odd_model():
    """A dict of inputs, a layer used twice, dropout, a nested model, a frozen layer."""
    layers = keras.layers
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, layers.Conv2D(4, 3, padding="same")(inner_input), name="inner")
    inputs = {name: keras.Input((8, 8, 3), name=name) for name in ("left", "right")}
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.Add(name="both")([shared(inputs["left"]), shared(inputs["right"])])
    x = inner(layers.Dropout(0.5, name="dropout")(x))
    x = layers.BatchNormalization(name="norm", trainable=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32", name="scores")(x))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("place", "count"), [("shared", 2), ("inner", 1), ("dropout", 1), (["both", "norm"], 2)]
)
def test_in_models_of_every_shape(place, count, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = odd_model()
    randomize(model)
    result = keras_archs.insert(model, NonLocalBlock(), after=place)
    blocks = [layer for layer in result.layers if isinstance(layer, NonLocalBlock)]
    assert len({block.name for block in blocks}) == len(blocks) == count
    assert {block.compute_dtype for block in blocks} == {model.get_layer("norm").compute_dtype}
    x = {"left": images(8), "right": images(8, seed=1)}
    np.testing.assert_array_equal(result(x), model(x))
    assert not result.get_layer("norm").trainable
    assert len(result.trainable_weights) == len(model.trainable_weights) + 10 * count

    result.compile(keras.optimizers.SGD(0.1), "mse")
    assert np.isfinite(result.train_on_batch(x, np.ones((2, 3))))
    result.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), result(x))


@pytest.fixture(scope="module")
def many_maps():
    return keras_archs.MobileNetV3Small(alpha=0.75, input_shape=(32, 32, 3), classes=3)


@pytest.mark.full
@settings(max_examples=15, deadline=None)
@given(data=st.data(), sub_sample=st.booleans())
def test_behind_any_layer_with_a_map(many_maps, data, sub_sample):
    model = many_maps
    maps = [layer.name for layer in model.layers if len(layer.output.shape) == 4]
    maps = [name for name in maps if not isinstance(model.get_layer(name), keras.layers.InputLayer)]
    place = data.draw(st.sampled_from(maps))
    result = keras_archs.insert(model, NonLocalBlock(sub_sample=sub_sample), after=place)
    assert len(result.layers) == len(model.layers) + 1
    np.testing.assert_array_equal(result(images(32)), model(images(32)))


def test_twice_at_one_place():
    model = keras_archs.ResNet18(input_shape=(32, 32, 3), classes=3)
    for _ in range(2):
        model = keras_archs.insert(model, SqueezeExcite(), after="conv2_block1_out")
    names = [layer.name for layer in model.layers if isinstance(layer, SqueezeExcite)]
    assert len(names) == 2


@pytest.mark.full
def test_attention_argument_is_insert():
    arguments = {"input_shape": (64, 64, 3), "classes": 5}
    for attention, kinds in (
        ({3: "non_local", 4: "se"}, {"NonLocalBlock": 1, "SqueezeExcite": 1}),
        ("eca", {"ECA": 5}),
        ({5: keras_archs.CBAM()}, {"CBAM": 1}),
    ):
        model = keras_archs.ResNet18(attention=attention, **arguments)
        added = [type(layer).__name__ for layer in model.layers]
        assert {kind: added.count(kind) for kind in kinds} == kinds
    plain = keras_archs.ResNet18(**arguments)
    model = keras_archs.ResNet18(attention={4: "non_local"}, **arguments)
    for layer in plain.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    np.testing.assert_array_equal(model(images(64)), plain(images(64)))


def test_attention_argument_loads_its_own_files(tmp_path):
    arguments = {"input_shape": (32, 32, 3), "classes": 5, "attention": {3: "se"}}
    model = keras_archs.MobileNet(alpha=0.25, **arguments)
    model.save_weights(tmp_path / "se.weights.h5")
    again = keras_archs.MobileNet(alpha=0.25, weights=tmp_path / "se.weights.h5", **arguments)
    np.testing.assert_array_equal(again(images(32)), model(images(32)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: keras_archs.insert(m, NonLocalBlock(), after="conv4_out"), "after='conv4_out'"),
        (lambda m: keras_archs.insert(m, NonLocalBlock(), after=9), r"after=9.*\[1, 2, 3, 4, 5\]"),
        (lambda m: keras_archs.insert(m, NonLocalBlock, after=3), "block must be a Keras layer"),
        (
            lambda m: keras_archs.insert(m, NonLocalBlock(), after="conv2_block1_oot"),
            "Did you mean 'conv2_block1_out'",
        ),
        (
            lambda _: keras_archs.insert(keras.Model(), NonLocalBlock(), after=3),
            "functional",
        ),
        (lambda _: keras_archs.ResNet18(attention="sse"), "attention='sse'.*'se'"),
        (lambda _: keras_archs.ResNet18(attention={"3": "se"}), "levels.*'3'"),
        (lambda _: keras_archs.ResNet18(attention={9: "se"}), "9"),
        (lambda _: keras_archs.ResNet18(attention=5), "attention.*5"),
    ],
)
def test_bad_input_is_named(call, message):
    model = keras_archs.ResNet18(input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=message):
        call(model)
