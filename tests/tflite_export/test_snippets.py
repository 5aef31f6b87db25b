"""The programs that say how to call a file: the Python one is run."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_archs.errors import InputError
from tests.tflite_export.files import NAMES, file_of, metadata, open_batch_file, uint8_file
from tflite_export import Classifier, Snippets, attach, convert
from tflite_export.images import read_image

CASES = {
    "float": (lambda: file_of("none"), {"crop": 0.875}),
    "bgr": (lambda: file_of("none"), {"bgr": True, "class_names": None}),
    "int8": (lambda: file_of("int8"), {"quantize": "int8", "mean": (127.5,), "scale": 127.5}),
    "uint8": (uint8_file, {"quantize": "int8"}),
    "open batch": (open_batch_file, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_python_gives_what_the_classifier_gives(case, tmp_path):
    make, changes = CASES[case]
    facts = metadata(**changes)
    content = attach(make(), facts)
    (tmp_path / "network.tflite").write_bytes(content)
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.jpg")
    program = Snippets.of(content, "network.tflite").python
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    image = read_image(tmp_path / "image.jpg", facts.image_shape, facts.crop)
    scores = Classifier(content).predict(facts.preprocess(image[None]))[0]
    best = int(scores.argmax())
    name, score = found.stdout.split()
    assert name == (NAMES[best] if facts.class_names else str(best))
    assert float(score) == pytest.approx(scores[best], abs=1e-6)


@pytest.mark.parametrize("language", ["cpp", "kotlin"])
def test_other_languages_get_the_numbers_of_the_file(language):
    content = attach(file_of("int8"), metadata(quantize="int8"))
    text = getattr(Snippets.of(content, "network.tflite"), language)
    tensor = Classifier(content)._input
    for number in ("123.675f, 116.28f, 103.53f", f"{tensor.scale}f", f" + {tensor.zero_point}"):
        assert number in text
    assert '"network.tflite"' in text
    assert text.count("{") == text.count("}")
    assert text.count("(") == text.count(")")
    assert max(map(len, text.splitlines())) <= 120


def test_other_languages_cut_what_evaluation_cut():
    cut, whole = (
        Snippets.of(attach(file_of("none"), metadata(crop=crop))) for crop in (0.875, None)
    )
    assert "0.875f * minOf(bitmap.width, bitmap.height)" in cut.kotlin
    assert "createScaledBitmap(square, " in cut.kotlin
    assert "createScaledBitmap(bitmap, " in whole.kotlin
    assert "centred square of 0.875 of the image's shorter side" in cut.cpp
    assert "square" not in whole.kotlin + whole.cpp
    for program in (cut.kotlin, cut.cpp):
        assert max(map(len, program.splitlines())) <= 120


def test_gray_pixels_and_a_dollar_in_kotlin():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    facts = metadata(image_shape=(8, 8, 1), class_names=None)
    program = Snippets.of(attach(convert(model).content, facts), "net$one.tflite").kotlin
    assert r'openFd("net\$one.tflite")' in program
    assert "val value = (gray - mean[0]) / scale[0]" in program
    assert max(map(len, program.splitlines())) <= 120


def test_a_file_that_says_nothing_of_itself_is_refused():
    with pytest.raises(InputError, match="must have metadata"):
        Snippets.of(file_of("none"))
