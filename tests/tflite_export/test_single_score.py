"""Networks that tell two classes apart by one score: export, labels, predict, snippets."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_archs
from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export.networks import SHAPE, as_pixels, stripes
from tests.tflite_export.test_metadata import entries
from tflite_export import (
    KINDS,
    Classifier,
    Snippets,
    attach,
    convert,
    debug,
    read_metadata,
)
from tflite_export.cli.predict import predict
from tflite_export.sources import Source
from tflite_export.verification.parity import Parity

NAMES = ("straight", "slanted")


def pictures(count, seed):
    """Stripes as pixels, and whether they are slanted."""
    images, directions = stripes(count, seed)
    return as_pixels(images), (directions >= 2).astype(int)


PIXELS, LABELS = pictures(400, seed=1)
LABELS[::10] = 1 - LABELS[::10]  # for an accuracy that is not that of luck, nor all
IMAGES = TF(PIXELS.astype(np.float32))
CALIBRATION = TF(pictures(100, seed=2)[0].astype(np.float32))


@pytest.fixture(scope="module")
def model():
    """A convolution is enough for stripes."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(16, 5, strides=2, activation="relu", name="first"),
            layers.Conv2D(16, 3, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(1, activation="sigmoid", name="score"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    pixels, labels = pictures(1000, seed=0)
    network.fit(TF(pixels.astype(np.float32)), labels, epochs=2, batch_size=64, verbose=0)
    return network


@pytest.fixture(scope="module")
def source(model):
    return Source(model, NAMES, TF)


def converted(source, kind, **arguments):
    images = CALIBRATION if kind in ("int8", "int16x8") else None
    return convert(source, kind, representative=images, test=IMAGES, labels=LABELS, **arguments)


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "scores"),
    [("none", "logits"), ("int8", "logits")]
    + [(kind, "model") for kind in KINDS if kind != "weight_int4"],
)
def test_the_report_counts_sides(model, source, kind, scores):
    report = converted(source, kind, scores=scores).report
    accuracy = keras.metrics.BinaryAccuracy()
    accuracy.update_state(LABELS[:, None], model.predict(IMAGES, verbose=0))
    assert report.keras_top1 == pytest.approx(float(accuracy.result()))
    assert report.keras_top1 > 0.8, "a network that sees nothing would be no test"
    assert 0.95 <= report.agreement <= 1
    assert report.tflite_top1 == pytest.approx(report.keras_top1, abs=0.05)


@pytest.mark.full
def test_a_file_that_takes_the_other_side_agrees_on_nothing(model):
    turned = keras.models.clone_model(model)
    *others, kernel, bias = model.get_weights()
    turned.set_weights([*others, -kernel, -bias])
    content, scores = convert(turned, "none").content, model.predict(IMAGES, verbose=0)
    parity = Parity.measure(content, IMAGES, LABELS, scores)
    assert parity.agreement == 0
    assert parity.tflite_top1 == pytest.approx(1 - parity.keras_top1)


def test_the_file_names_both_classes(source):
    content = converted(source, "none").content
    facts = read_metadata(content)
    assert (facts.class_names, facts.activation) == (NAMES, "sigmoid")
    # Readers of the standard take labels for names of outputs, of which there is one.
    assert b"labels.txt" in entries(content)[b"TFLITE_METADATA"]
    assert Classifier(content).predict(IMAGES[:3]).shape == (3, 1)
    plain = convert(source.model, "none").content
    with pytest.raises(InputError, match="1 class names for 2 classes"):
        attach(plain, replace(facts, class_names=("slanted",)))


@pytest.mark.full
@pytest.mark.parametrize("scores", ["model", "logits"])
def test_predict_prints_both_classes(source, scores, tmp_path, capsys):
    content = converted(source, "none", scores=scores).content
    (tmp_path / "net.tflite").write_bytes(content)
    for number, image in enumerate(PIXELS[:6]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    rows = source.model.predict(IMAGES[:6], verbose=0)[:, 0]
    capsys.readouterr()
    predict([str(tmp_path / "net.tflite"), *(str(tmp_path / f"{i}.png") for i in range(6))])
    lines = capsys.readouterr().out.splitlines()
    for number, high in enumerate(rows):
        best, other = (line.split() for line in lines[3 * number + 1 : 3 * number + 3])
        expected = sorted(((1 - high, "straight"), (high, "slanted")), reverse=True)
        assert [best[1], other[1]] == [name for _, name in expected]
        for line, (share, _) in zip((best, other), expected, strict=True):
            assert float(line[0].rstrip("%")) == pytest.approx(100 * share, abs=0.01)


@pytest.mark.full
@pytest.mark.parametrize("scores", ["model", "logits"])
def test_the_python_snippet_names_the_side(source, scores, tmp_path):
    content = converted(source, "none", scores=scores).content
    (tmp_path / "net.tflite").write_bytes(content)
    program = Snippets.of(content, "net.tflite").python.replace("image.jpg", "image.png")
    (tmp_path / "snippet.py").write_text(program)
    high = source.model.predict(IMAGES, verbose=0)[:, 0] > 0.5
    for side in (False, True):
        Image.fromarray(PIXELS[high == side][0]).save(tmp_path / "image.png")
        command = [sys.executable, "snippet.py"]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert found.stdout.split()[0] == NAMES[side]


@pytest.mark.full
def test_debug_looks_into_one(model):
    content = convert(model, "int8", representative=CALIBRATION).content
    losses = debug(model, "int8", content, IMAGES)
    assert {each.layer for each in losses} >= {"first", "second"}
    assert all(each.agreement_alone > 0.8 for each in losses)


def test_one_logit_becomes_a_probability_by_a_sigmoid(model):
    image = keras.Input(SHAPE)
    features = keras.Model(model.inputs, model.get_layer("pool").output)(image)
    end = layers.Dense(1)
    logit = keras.Model(image, end(features))
    end.set_weights(model.get_layer("score").get_weights())
    found = Classifier(convert(logit, scores="probabilities").content).predict(IMAGES[:9])
    np.testing.assert_allclose(found, model.predict(IMAGES[:9], verbose=0), atol=1e-5)


@pytest.mark.full
def test_a_network_of_the_registry_with_one_class():
    shape = {"input_shape": (32, 32, 3), "classes": 1, "classifier_activation": "sigmoid"}
    network = keras_archs.create_model("mobilenet", alpha=0.25, **shape)
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    source = Source(network, None, TF)
    for scores, batch in (("model", 1), ("model", None), ("logits", 1)):
        facts = read_metadata(convert(source, scores=scores, batch=batch).content)
        assert (facts.probabilities, facts.activation) == (scores == "model", "sigmoid")
    found = Classifier(convert(network).content).predict(images)
    np.testing.assert_allclose(found, network.predict(images, verbose=0), atol=1e-5)
