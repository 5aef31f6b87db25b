"""The programs that say how to call a file: in Python and, on a stub of LiteRT, in C++ they run."""

import functools
import shutil
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
from tflite_export.runtime.images import read_image


@functools.cache
def wide_file():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 20, 3)), layers.Flatten(), layers.Dense(4)])
    return convert(model).content


CASES = {
    "float": (lambda: file_of("none"), {"crop": 0.875}),
    "bgr": (lambda: file_of("none"), {"bgr": True, "class_names": None}),
    "int8": (lambda: file_of("int8"), {"quantize": "int8", "mean": (127.5,), "scale": 127.5}),
    "uint8": (uint8_file, {"quantize": "int8"}),
    "open batch": (open_batch_file, {}),
    "wide": (wide_file, {"image_shape": (8, 20, 3), "probabilities": False}),
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


# What the program uses of LiteRT's C++ API, with the signatures of tflite/core/model_builder.h,
# core/interpreter_builder.h, core/interpreter.h and kernels/register.h. The network in it gives
# back its first inputs, and writes all of them to stderr.
HEADERS = {
    "model.h": """
#pragma once
#include <memory>
namespace tflite {
class ErrorReporter;
class FlatBufferModel {
 public:
  static std::unique_ptr<FlatBufferModel> BuildFromFile(
      const char* filename, ErrorReporter* error_reporter = nullptr) {
    return std::make_unique<FlatBufferModel>();
  }
};
}
""",
    "interpreter.h": """
#pragma once
#include <cstdio>
#include <cstring>
#include <memory>
#include "tflite/model.h"
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
namespace tflite {
class OpResolver { public: virtual ~OpResolver() = default; };
class InterpreterOptions;
class Interpreter {
 public:
  TfLiteStatus AllocateTensors() { ready = true; return kTfLiteOk; }
  TfLiteStatus Invoke() {
    std::fwrite(input, 1, sizeof(input), stderr);
    std::memcpy(output, input, sizeof(output));
    return kTfLiteOk;
  }
  template <class T> T* typed_input_tensor(int index) {
    return ready && index == 0 ? reinterpret_cast<T*>(input) : nullptr;
  }
  template <class T> T* typed_output_tensor(int index) {
    return ready && index == 0 ? reinterpret_cast<T*>(output) : nullptr;
  }
 private:
  bool ready = false;
  alignas(4) char input[INPUT], output[OUTPUT];
};
class InterpreterBuilder {
 public:
  InterpreterBuilder(const FlatBufferModel& model, const OpResolver& op_resolver,
                     const InterpreterOptions* options_experimental = nullptr) {}
  TfLiteStatus operator()(std::unique_ptr<Interpreter>* interpreter) {
    *interpreter = std::make_unique<Interpreter>();
    return kTfLiteOk;
  }
};
}
""",
    "kernels/register.h": """
#pragma once
#include "tflite/interpreter.h"
namespace tflite { namespace ops { namespace builtin {
class BuiltinOpResolver : public OpResolver {};
}}}
""",
}
MAIN = """
#include <cstdio>
#include <iterator>
int main() {
  std::vector<std::uint8_t> pixels;
  for (int byte; (byte = std::getchar()) != EOF;) pixels.push_back(byte);
  for (float score : classify(pixels)) std::printf("%.9g\\n", score);
}
"""


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("case", ["bgr", "int8", "uint8"])
def test_cpp_gives_the_network_what_the_classifier_gives(case, tmp_path):
    make, changes = CASES[case]
    facts = metadata(**changes)
    content = attach(make(), facts)
    classifier = Classifier(content)
    source, target = classifier._input, classifier._output
    for name, text in HEADERS.items():
        (tmp_path / "tflite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tflite" / name).write_text(text)
    (tmp_path / "main.cc").write_text(Snippets.of(content, "network.tflite").cpp + MAIN)
    values = np.prod(facts.image_shape)
    sizes = {"INPUT": values, "OUTPUT": classifier.scores}
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Werror", "-I.", "main.cc", "-o", "main"]
        + [f"-D{name}={n * source.dtype().itemsize}" for name, n in sizes.items()],
        cwd=tmp_path,
        check=True,
    )
    pixels = np.random.default_rng(0).integers(0, 256, facts.image_shape, dtype=np.uint8)
    # Which order the colours are in is for whoever reads the picture.
    given = pixels[..., ::-1] if facts.bgr else pixels
    done = subprocess.run(
        [tmp_path / "main"], input=given.tobytes(), capture_output=True, check=True
    )
    expected = source.encode(facts.preprocess(pixels)).ravel()
    found = np.frombuffer(done.stderr, source.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    scores = np.float32(done.stdout.split())
    np.testing.assert_allclose(scores, target.decode(found[: len(scores)]), rtol=1e-6)


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
