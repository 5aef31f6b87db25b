"""What a file costs: against arithmetic, Keras, and the interpreter's own clock."""

import os
from pathlib import Path

import keras
import pytest
from keras import layers

from keras_archs.errors import InputError
from tests.tflite_export.files import file_of, open_batch_file
from tests.tflite_export.networks import stripes
from tflite_export import Classifier, convert
from tflite_export.runtime import latency as latency_module
from tflite_export.runtime import profiler
from tflite_export.runtime.latency import count_multiply_adds, measure_peak

IMAGE = stripes(1)[0][0]


def test_multiply_adds_are_those_of_the_network():
    # 12 x 12 places after the first convolution; the norms are folded, the mean counts nothing.
    expected = 144 * (3 * 9 * 16 + 9 * 16 + 16 * 64) + 64 * 4
    for kind in ("none", "float16", "dynamic", "int8"):
        assert count_multiply_adds(file_of(kind)) == expected
    assert count_multiply_adds(open_batch_file()) == expected


def test_multiply_adds_of_groups_and_of_products_of_activations():
    image = keras.Input((8, 8, 8))
    tokens = layers.Reshape((36, 12))(layers.Conv2D(12, 3, groups=4)(image))
    likeness = keras.ops.matmul(tokens, keras.ops.transpose(tokens, (0, 2, 1)))
    mixed = keras.ops.matmul(likeness, tokens)
    scores = layers.Dense(5)(layers.GlobalAveragePooling1D()(mixed))
    expected = 36 * 12 * 9 * 2 + 36 * 36 * 12 + 36 * 12 * 36 + 12 * 5
    assert count_multiply_adds(convert(keras.Model(image, scores)).content) == expected


def test_latency_names_what_computed():
    latency = Classifier(file_of("none")).latency(IMAGE, repeats=20, warmup=3)
    assert latency.delegate == "XNNPACK"
    assert latency.multiply_adds == count_multiply_adds(file_of("none"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_is_of_so_many_threads(monkeypatch, threads):
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("NumPy starts no more threads than there are cores")
    count = "\nimport os; print(len(os.listdir('/proc/self/task')))"
    silent = latency_module._PRODUCT.replace("print(", "str(")
    monkeypatch.setattr(latency_module, "_PRODUCT", silent + count)
    assert measure_peak(threads) == threads


def test_the_peak_imports_nothing_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    # No machine of these years is slower than 0.1 or faster than 1,000 per core and nanosecond.
    assert 1e8 < measure_peak(1) < 1e12


def test_processes_that_do_not_end_are_given_up():
    assert measure_peak(1, timeout=0.01) is None
    with pytest.raises(RuntimeError, match=r"did not end within 0\.004 seconds"):
        profiler.profile(
            file_of("none"), IMAGE.tobytes(), threads=1, repeats=3, warmup=0, timeout=0.001
        )


@pytest.mark.parametrize("kind", ["none", "int8"])
def test_the_profile_lists_the_operators_and_their_time_adds_up(kind):
    classifier = Classifier(file_of(kind))
    profile = classifier.profile(IMAGE, repeats=20, warmup=3)
    kinds = " ".join(operator.kind for operator in profile.operators)
    for word in ("Convolution", "DWConv", "Mean", "Fully Connected", "Softmax"):
        assert word.lower() in kinds.lower()
    outside = [operator.kind for operator in profile.operators if not operator.delegated]
    assert outside == (["SOFTMAX"] if kind == "int8" else [])
    assert (profile.repeats, profile.warmup, profile.threads) == (20, 3, 1)
    assert profile.mean_ms > 0  # operators of less than a microsecond count as none
    assert sum(profile.by_kind().values()) == pytest.approx(profile.mean_ms)
    assert (
        f"{profile.mean_ms:.3f} ms in {len(profile.operators)} operators, {len(outside)} of"
        in str(profile)
    )


@pytest.mark.full
def test_the_profile_tells_operators_that_xnnpack_leaves():
    image = keras.Input((24, 24, 3))
    sums = keras.ops.cumsum(layers.Conv2D(4, 3)(image), axis=1)  # none of XNNPACK's
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(sums)))
    profile = Classifier(convert(model).content).profile(IMAGE, repeats=5, warmup=1)
    outside = [operator.kind for operator in profile.operators if not operator.delegated]
    assert outside == ["CUMSUM"]
    calls = {operator.kind: operator.calls for operator in profile.operators}
    assert (
        calls["Convolution (NHWC, F32) IGEMM"] == 2
    )  # the first of the part before and of that after


def test_profiles_that_cannot_be_made_say_why(monkeypatch):
    with pytest.raises(InputError, match="batch of 1"):
        Classifier(open_batch_file()).profile(IMAGE)
    with pytest.raises(InputError, match="image must be of shape"):
        Classifier(file_of("none")).profile(IMAGE[:3])
    monkeypatch.setattr(profiler, "version", lambda _: "9.9.0")
    with pytest.raises(RuntimeError, match=r"ai-edge-litert 2\.3\.\*, not 9\.9\.0"):
        Classifier(file_of("none")).profile(IMAGE)
