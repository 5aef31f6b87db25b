"""What is in the files: numbers, sizes, types, operations."""

import tempfile
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import TensorType
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export.networks import SHAPE, as_pixels, build, shake_norms, stripes
from tflite_export import KINDS, Classifier, Conversion, conversion, convert, read_metadata
from tflite_export.lowering import lower as lowering
from tflite_export.sources import Source

IMAGES = stripes(60)[0]


def convert_as(kind, model, images=IMAGES):
    return convert(model, kind, representative=images if kind in {"int8", "int16x8"} else None)


def operations(content, capsys):
    """How often each operation is in the file, as TensorFlow's own analyzer prints it."""
    capsys.readouterr()
    tf.lite.experimental.Analyzer.analyze(model_content=content)
    lines = capsys.readouterr().out.splitlines()
    return Counter(line.split()[1].partition("(")[0] for line in lines if "Op#" in line)


def nested_with_operations():
    outside = keras.Input(SHAPE)
    inside = keras.Input((22, 22, 8))
    block = keras.Model(inside, layers.Conv2D(8, 3, activation="relu")(inside))
    features = block(layers.Conv2D(8, 3)(outside)) * 2.0 + 1.0
    scores = layers.Dense(4)(layers.GlobalAveragePooling2D()(features))
    return keras.Model(outside, scores)


@pytest.mark.parametrize("make", [build, nested_with_operations])
def test_float_file_computes_as_keras(make):
    model = make()
    actual = Classifier(convert(model).content).predict(IMAGES)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, model.predict(IMAGES, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    ("end", "scores", "expected"),
    [
        (layers.Activation("sigmoid"), "logits", (False, "sigmoid")),
        (layers.Activation("sigmoid"), "model", (True, "sigmoid")),
        (layers.Softmax(), "logits", (False, "softmax")),
        (layers.Identity(), "model", (False, None)),
    ],
)
def test_the_file_says_what_its_logits_are_meant_for(end, scores, expected):
    pooled = layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input(SHAPE), pooled, layers.Dense(3), end])
    facts = read_metadata(convert(Source(model, preprocessing=TF), scores=scores).content)
    assert (facts.probabilities, facts.activation) == expected


@pytest.mark.full
def test_one_output_in_a_list_or_dictionary_converts():
    model = build()
    image = keras.Input(SHAPE)
    scores = model(image)
    expected = convert(model).content
    for outputs in ([scores], {"scores": scores}):
        actual = convert(keras.Model(image, outputs)).content
        np.testing.assert_array_equal(
            Classifier(actual).predict(IMAGES), Classifier(expected).predict(IMAGES)
        )


@pytest.mark.full
def test_sizes():
    """Weights take 4, 2 and 1 bytes; the rest of the file is small beside 300,000 of them."""
    model = keras.Sequential([keras.Input(SHAPE)])
    for _ in range(3):
        model.add(layers.Conv2D(128, 3, activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(4))
    size = {kind: len(convert_as(kind, model).content) for kind in KINDS}
    assert size["none"] == pytest.approx(4 * model.count_params(), rel=0.02)
    assert size["float16"] / size["none"] == pytest.approx(0.5, abs=0.02)
    assert size["dynamic"] / size["none"] == pytest.approx(0.25, abs=0.02)
    assert size["int8"] / size["none"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("kind", ["none", "int8"])
def test_batch_norms_are_folded_into_the_convolutions(kind, capsys):
    found = operations(convert_as(kind, build()).content, capsys)
    assert found == {
        "CONV_2D": 2,
        "DEPTHWISE_CONV_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }


@pytest.mark.full
def test_mobilenet_of_keras_has_no_shape_computed_at_run_time(capsys):
    """Its head reshapes, which an open batch would turn into SHAPE, STRIDED_SLICE and PACK."""
    model = shake_norms(
        keras.applications.MobileNet(
            alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=10, dropout=0.5
        )
    )
    content = convert(model).content
    assert operations(content, capsys) == {
        "CONV_2D": 15,
        "DEPTHWISE_CONV_2D": 13,
        "MEAN": 1,
        "RESHAPE": 1,
        "SOFTMAX": 1,
    }
    images = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(Classifier(content).predict(images), expected, atol=1e-5)


def test_int8_file_has_no_float_tensor():
    interpreter = Interpreter(model_content=convert_as("int8", build()).content)
    assert interpreter.get_input_details()[0]["dtype"] is np.int8
    assert interpreter.get_output_details()[0]["dtype"] is np.int8
    types = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert types <= {np.int8, np.int32}


def test_int8_is_refused_where_an_operation_would_stay_in_float():
    image = keras.Input(SHAPE)
    waves = keras.ops.sin(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(waves)))
    with pytest.raises(InputError, match=r"without an integer version.*Sin"):
        convert_as("int8", model)


@pytest.mark.full
@pytest.mark.parametrize("make", [build, nested_with_operations])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_the_file_of_the_float32_twin(policy, make):
    twin = make()
    keras.config.set_dtype_policy(policy)
    model = make()
    model.set_weights(twin.get_weights())
    actual, expected = (Classifier(convert(m).content).predict(IMAGES) for m in (model, twin))
    np.testing.assert_array_equal(actual, expected)
    assert {layer.dtype_policy.name for layer in model.layers} == {policy}
    # In half precision the model itself would be further from the file than the gate allows.
    assert convert(model, test=IMAGES).report.max_error < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was_and_no_file_behind(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = build()
    weights, scores = model.get_weights(), model.predict(IMAGES, verbose=0)
    convert_as(kind, model)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), scores)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def model_of(inputs=1, outputs=1, shape=SHAPE):
    images = [keras.Input(shape) for _ in range(inputs)]
    features = layers.GlobalAveragePooling2D()(sum(images[1:], images[0]))
    return keras.Model(images, [layers.Dense(3)(features) for _ in range(outputs)])


class Subclassed(keras.Model):
    def call(self, images):
        return images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model_of(inputs=2), "one input and one output.*2 inputs and 1 outputs"),
        (lambda: model_of(outputs=2), "one input and one output.*1 inputs and 2 outputs"),
        (Subclassed, "functional.*got a Subclassed"),
        (lambda: keras.Sequential([layers.Dense(3)]), "built functional.*got a Sequential"),
        (lambda: model_of(shape=(None, None, 3)), "any size.*fixed input shape"),
        (lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3)]), "height, width"),
        (lambda: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 1)]), "classes"),
        (
            lambda: keras.Sequential(
                [keras.Input(SHAPE), layers.Flatten(), layers.Dense(1, "softmax")]
            ),
            "softmax of one score.*sigmoid",
        ),
    ],
)
def test_models_that_are_no_such_classifier_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        convert(make())


@pytest.mark.parametrize(
    ("kind", "images", "message"),
    [
        ("int4", None, "none, float16, dynamic, int8, .*got 'int4'.*mean .*'int8'"),
        (
            "float16",
            IMAGES,
            "representative works with quantize='int8' or 'int16x8' only, got 'float16'",
        ),
        ("int8", None, r"representative is missing.*\[n, 24, 24, 3\], n >= 50"),
        ("int8", IMAGES[:49], "at least 50 images, got 49"),
        ("int8", IMAGES[:, 1:], r"\[n, 24, 24, 3\].*\(60, 23, 24, 3\)"),
        ("int8", IMAGES.astype(int), "representative must be preprocessed images.*got int64"),
        ("int8", as_pixels(IMAGES), "representative must be preprocessed.*uint8 pixels"),
        ("int8", [IMAGES, IMAGES[:3]], r"images, floats of shape \[n, 24, 24, 3\], got list"),
        ("int8", tf.data.Dataset.range(3), "floats of shape .*got .*Dataset"),
        ("int8", np.full_like(IMAGES, 0.5), "real images, got 0.5 everywhere"),
        ("int8", np.where(IMAGES > 0, IMAGES, np.float32("nan")), "representative holds NaN"),
    ],
)
def test_bad_arguments_are_refused(kind, images, message):
    with pytest.raises(InputError, match=message) as caught:
        convert(model_of(), kind, representative=images)
    assert "\n" not in str(caught.value)


def test_a_file_that_litert_does_not_take_is_refused_untested_too(monkeypatch):
    def damaged(*arguments, **options):
        file = flatbuffer_utils.read_model_from_bytearray(lowering.lower(*arguments, **options))
        for tensor in file.subgraphs[0].tensors:
            if tensor.type == TensorType.INT32 and len(tensor.shape) == 1:
                tensor.type = TensorType.FLOAT32  # a bias that no kernel for integers takes
        return bytes(flatbuffer_utils.convert_object_to_bytearray(file))

    monkeypatch.setattr(conversion, "lower", damaged)
    with pytest.raises(InputError, match=r"not a working TFLite file: .* failed to prepare"):
        convert(build(), "int8", representative=stripes(60)[0])


def test_save_replaces_only_when_told(tmp_path):
    path = tmp_path / "model.tflite"
    assert Conversion("none", b"first").save(str(path)) == path
    with pytest.raises(InputError, match=r"model\.tflite.*exists"):
        Conversion("none", b"second").save(path)
    assert path.read_bytes() == b"first"
    Conversion("none", b"third").save(path, overwrite=True)
    assert path.read_bytes() == b"third"
    with pytest.raises(InputError, match="existing folder"):
        Conversion("none", b"fourth").save(tmp_path / "missing" / "model.tflite")
    with pytest.raises(InputError, match="existing folder"):
        Conversion("none", b"fifth").save(path / "model.tflite")
    with pytest.raises(InputError, match="is a folder"):
        Conversion("none", b"sixth").save(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r"/proc.*(cannot be written|existing folder)"):
        Conversion("none", b"seventh").save("/proc/model.tflite")
    assert list(tmp_path.iterdir()) == [path]
