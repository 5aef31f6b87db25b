"""The report against counts of its own, and what quantization costs a trained network."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_archs.display.formatting import byte_size
from keras_archs.errors import InputError
from tests.tflite_export.networks import SHAPE, stripes
from tflite_export import KINDS, Classifier, convert

TEST_IMAGES, TEST_LABELS = stripes(1000, seed=1)
CALIBRATION = stripes(100, seed=2)[0]


def checked(model, images, labels, kind, **settings):
    return convert(model, kind, test=images, labels=labels, min_agreement=0, **settings)


@pytest.fixture(scope="module")
def int8(trained):
    images, labels = TEST_IMAGES[:50], TEST_LABELS[:50]
    return checked(trained, images, labels, "int8", representative=CALIBRATION, threads=2)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_top1_holds_within_one_point(trained, kind):
    images = CALIBRATION if kind in ("int8", "int16x8") else None
    report = checked(trained, TEST_IMAGES, TEST_LABELS, kind, representative=images).report
    assert report.keras_top1 > 0.9
    assert report.tflite_top1 == pytest.approx(report.keras_top1, abs=0.01)
    assert report.agreement > 0.98


def test_numbers_are_those_of_a_count(trained):
    images, labels = TEST_IMAGES[:200], TEST_LABELS[:200].copy()
    labels[:50] = (labels[:50] + 1) % 4  # a top-1 that no other figure of the report equals
    int8 = checked(trained, images, labels, "int8", representative=CALIBRATION, threads=2)
    report = int8.report

    expected = np.array(trained(images))
    actual = Classifier(int8.content).predict(images)
    right = same = lite_right = 0
    for ours, theirs, label in zip(expected, actual, labels, strict=True):
        right += int(ours.argmax() == label)
        lite_right += int(theirs.argmax() == label)
        same += int(ours.argmax() == theirs.argmax())
    assert report.keras_top1 == pytest.approx(right / 200)
    assert report.tflite_top1 == pytest.approx(lite_right / 200)
    assert report.agreement == pytest.approx(same / 200)
    assert report.max_abs_difference == pytest.approx(abs(expected - actual).max(), abs=1e-5)
    assert report.size_bytes == len(int8.content)
    assert (report.quantize, report.images, report.latency.threads) == ("int8", 200, 2)


def test_compares_a_model_with_its_output_in_a_dictionary(trained):
    image = keras.Input(SHAPE)
    model = keras.Model(image, {"scores": trained(image)})
    report = checked(model, TEST_IMAGES[:50], TEST_LABELS[:50], "none").report
    assert report.agreement == 1


def test_json_holds_the_report(int8, tmp_path):
    report = int8.report
    path = report.save_json(tmp_path / "report.json")
    content = json.loads(path.read_text())
    assert content["tflite_top1"] == report.tflite_top1
    assert content["latency"]["median_ms"] == report.latency.median_ms
    assert content["versions"]["keras"] == keras.__version__
    with pytest.raises(InputError, match="existing folder"):
        report.save_json(tmp_path / "missing" / "report.json")


def test_table_shows_the_figures(int8):
    report = int8.report
    row = report.row()
    assert row["top-1"] == f"{100 * report.tflite_top1:.2f}%"
    assert row["size"] == f"{len(int8.content) / 1e3:.1f} kB"
    for part in ("50 images", "threads: 2", report.processor, keras.__version__):
        assert part in report.conditions()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 kB"), (862_417, "862.4 kB"), (-3_500, "-3.5 kB"), (1_000_000, "1.00 MB")],
)
def test_sizes_below_a_megabyte_are_in_kilobytes(count, text):
    assert byte_size(count) == text


def test_a_notebook_shows_figures_and_no_bytes(int8):
    untested = replace(int8, report=None, kept_float=("<b>",))
    tables = [each._repr_html_() for each in (int8, int8.report, untested)]
    for each in (int8, int8.report, untested):
        assert "int8" in repr(each)
        assert f"{len(int8.content) / 1e3:.1f} kB" in repr(each)
        assert len(repr(each)) < 250
    assert "not tested" in repr(untested)
    assert tables[0] == tables[1]
    assert f"<td>{int8.report.agreement:.2%}</td>" in tables[0]
    assert "<td>&lt;b&gt;</td>" in tables[2]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (TEST_IMAGES[:9, 1:], TEST_LABELS[:9], "test must be of shape"),
        (TEST_IMAGES[:9], TEST_LABELS[:8], r"shape \(9,\).*\(8,\)"),
        (TEST_IMAGES[:9], TEST_LABELS[:9, None], r"shape \(9,\).*\(9, 1\)"),
        (TEST_IMAGES[:9], TEST_LABELS[:9] / 2, "integers.*float64"),
        (TEST_IMAGES[:9], TEST_LABELS[:9] + 4, "labels must be from 0 to 3"),
        (TEST_IMAGES[:9], TEST_LABELS[:9] - 4, "labels must be from 0 to 3"),
    ],
)
def test_bad_arguments_are_refused(trained, images, labels, message):
    with pytest.raises(InputError, match=message):
        checked(trained, images, labels, "none")
