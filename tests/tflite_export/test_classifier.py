"""The interpreter's wrapper against arithmetic done by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_archs.errors import InputError
from tests.tflite_export.files import file_of, open_batch_file, uint8_file
from tests.tflite_export.networks import build, stripes
from tflite_export import Classifier, convert
from tflite_export.runtime.classifier import delegated

IMAGES = stripes(60)[0]


@pytest.fixture(scope="module")
def content():
    return convert(build()).content


def test_int8_goes_in_and_out_by_scale_and_zero_point(trained):
    content = convert(trained, "int8", representative=IMAGES).content
    images = 2 * IMAGES  # beyond the range that was measured: some values must be clipped
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = (source["quantization_parameters"][key][0] for key in ("scales", "zero_points"))
    steps = np.rint(images / scale + zero)
    assert steps.min() < -128
    assert steps.max() > 127
    expected = []
    for image in np.clip(steps, -128, 127).astype(np.int8):
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        # A softmax in int8 has 256 steps from 0 on, by the TFLite specification.
        expected.append((interpreter.get_tensor(target["index"])[0].astype(float) + 128) / 256)
    actual = Classifier(content).predict(images)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, np.array(expected))


def test_int8_rounds_to_the_nearest_step_and_clips_to_the_measured_range():
    """A network that hands its input through shows both ends of the quantization."""
    model = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten()])
    measured = np.linspace(-1, 3, 400, dtype=np.float32).reshape(100, 2, 2, 1)
    classifier = Classifier(convert(model, "int8", representative=measured).content)
    step = 4 / 255
    inside = np.random.default_rng(0).uniform(-0.99, 2.99, (50, 2, 2, 1)).astype(np.float32)
    np.testing.assert_allclose(
        classifier.predict(inside), inside.reshape(50, 4), rtol=0, atol=0.501 * step
    )
    outside = np.array([-50, -2, 4, 50], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(
        classifier.predict(outside), [[-1, -1, 3, 3]], rtol=0, atol=0.501 * step
    )


def test_reads_bytes_and_paths_alike(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    expected = Classifier(content).predict(IMAGES)
    np.testing.assert_array_equal(Classifier(path).predict(IMAGES), expected)
    np.testing.assert_allclose(Classifier(str(path), threads=2).predict(IMAGES), expected, 1e-5)


def test_latency_is_ordered_and_says_how_it_was_measured(content):
    latency = Classifier(content, threads=2).latency(IMAGES[0], repeats=20, warmup=3)
    assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms
    assert (latency.repeats, latency.warmup, latency.threads) == (20, 3, 2)


@pytest.mark.full
def test_latency_is_in_milliseconds():
    """A network of 600 million multiply-adds takes between 1 ms and 2 s on any machine."""
    big = keras.Sequential([keras.Input((64, 64, 64)), layers.Conv2D(256, 3, padding="same")])
    big.add(layers.GlobalAveragePooling2D())
    latency = Classifier(convert(big).content).latency(
        np.ones((64, 64, 64), np.float32), repeats=5, warmup=1
    )
    assert 1 < latency.median_ms < 2000


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_refused(content, share):
    with pytest.raises(InputError, match="not a working TFLite file") as caught:
        Classifier(content[: int(share * len(content))])
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "notes.tflite"
    text.write_text("no network at all")
    with pytest.raises(InputError, match=r"notes\.tflite.*not a working TFLite file"):
        Classifier(text)
    with pytest.raises(InputError, match=r"missing\.tflite.*No such file"):
        Classifier(tmp_path / "missing.tflite")


def test_bad_arguments_are_refused(content):
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match="threads must be"):
            Classifier(content, threads=threads)
    classifier = Classifier(content)
    for images in (IMAGES[0, 1:], IMAGES[:0], IMAGES[:, :, 1:]):
        with pytest.raises(InputError, match=r"images must be of shape \[n, 24, 24, 3\]"):
            classifier.predict(images)
    with pytest.raises(InputError, match="image must be one image, got"):
        classifier.latency(IMAGES)
    with pytest.raises(InputError, match="repeats must be at least 1"):
        classifier.latency(IMAGES[0], repeats=0)
    with pytest.raises(InputError, match="warmup at least 0"):
        classifier.latency(IMAGES[0], warmup=-1)


def test_an_open_batch_computes_as_a_batch_of_one():
    images = np.concatenate([IMAGES, IMAGES[:7]])  # no multiple of what runs at once
    classifier = Classifier(open_batch_file())
    expected = Classifier(file_of("none")).predict(images)
    np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-6)
    np.testing.assert_allclose(classifier.predict(images[:1]), expected[:1], atol=1e-6)
    assert classifier.latency(images[0], repeats=2, warmup=0).median_ms > 0


def test_bytes_go_in_and_out_as_they_do_in_int8():
    """The same network: TFLite's uint8 is int8 moved by 128."""
    np.testing.assert_allclose(
        Classifier(uint8_file()).predict(IMAGES),
        Classifier(file_of("int8")).predict(IMAGES),
        atol=0.01,
    )


def test_integers_without_a_scale_are_pixels():
    pixels = keras.Input((4, 4, 1), dtype="uint8")
    model = keras.Model(pixels, layers.Flatten()(keras.ops.cast(pixels, "float32")))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    images = np.linspace(-10, 300, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    expected = np.clip(np.rint(images), 0, 255).reshape(1, 16)
    np.testing.assert_array_equal(Classifier(content).predict(images), expected)


def test_the_delegate_is_named():
    assert Classifier(file_of("none")).delegate == "XNNPACK"
    image = keras.Input((4, 4))
    sums = keras.Model(image, keras.ops.cumsum(keras.ops.cumsum(image, axis=1), axis=2))
    interpreter = Interpreter(
        model_content=tf.lite.TFLiteConverter.from_keras_model(sums).convert()
    )
    interpreter.allocate_tensors()
    assert delegated(interpreter) == []
