"""What is let through, what is not, and how many layers stay in float for it."""

import json
import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from keras_archs.errors import InputError
from tests.tflite_export.networks import CLASSES, SHAPE, stripes
from tflite_export import KINDS, Classifier, ParityError, Source, convert, preparing
from tflite_export.gate import BOUNDS, bound_for, fewest
from tflite_export.parity import Parity

IMAGES, LABELS = stripes(400, seed=1)
CALIBRATION = stripes(100, seed=2)[0]


@pytest.fixture(scope="module")
def lopsided():
    """A network that 8 bits do not fit: one channel of its first map is 3,000 times the others."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(16, 3, strides=2, activation="relu", name="first"),
            layers.Conv2D(32, 1, activation="relu", name="second"),
            layers.Conv2D(32, 3, activation="relu", name="third"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(CLASSES, activation="softmax", name="scores"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*stripes(2000), epochs=5, batch_size=64, verbose=0)
    first, second = model.get_layer("first"), model.get_layer("second")
    large = np.where(np.arange(16) == 3, 3000, 1).astype(np.float32)
    first.set_weights([weight * large for weight in first.get_weights()])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / large[:, None], bias])
    return model


@pytest.fixture(scope="module")
def refused(lopsided):
    with pytest.raises(ParityError) as caught:
        convert(lopsided, "int8", representative=CALIBRATION, test=IMAGES, labels=LABELS)
    return caught.value


def test_a_file_that_is_too_far_is_refused_with_its_numbers(lopsided, refused):
    expected = lopsided.predict(IMAGES, verbose=0).argmax(1)
    actual = Classifier(refused.content).predict(IMAGES).argmax(1)
    agreement = np.mean(expected == actual)
    assert agreement < BOUNDS["int8"].min_agreement
    assert refused.report.agreement == pytest.approx(agreement)
    for number in (agreement, BOUNDS["int8"].min_agreement, np.mean(actual == LABELS)):
        assert f"{number:.2%}" in str(refused)


def test_the_refused_file_is_kept_aside_and_nothing_under_its_name(refused, tmp_path):
    path = refused.keep_aside(tmp_path / "model.tflite")
    assert path == tmp_path / "model.rejected.tflite"
    assert path.read_bytes() == refused.content
    kept = json.loads((tmp_path / "model.rejected.json").read_text())
    assert kept["agreement"] == refused.report.agreement
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(InputError, match="existing folder"):
        refused.keep_aside(tmp_path / "missing" / "model.tflite")


def test_auto_keeps_the_two_layers_at_the_lopsided_map_in_float(lopsided, refused):
    made = convert(
        lopsided, "int8", representative=CALIBRATION, test=IMAGES, labels=LABELS, auto=True
    )
    assert set(made.kept_float) == set(made.report.kept_float) == {"first", "second"}
    assert made.report.agreement >= BOUNDS["int8"].min_agreement
    price = len(made.content) - len(refused.content)
    assert made.report.kept_float_bytes == price > 0
    assert f"They cost {price / 1e3:.1f} kB" in made.report.price()
    assert "first" in made.report.price()


def test_auto_leaves_a_good_file_as_it_is(trained):
    plain, auto = (
        convert(trained, "int8", representative=CALIBRATION, test=IMAGES, auto=auto)
        for auto in (False, True)
    )
    assert auto.content == plain.content
    assert auto.kept_float == ()
    assert auto.report.keras_top1 is auto.report.tflite_top1 is None


def test_each_file_sees_the_test_images_once(lopsided, monkeypatch):
    seen = []
    predict = Classifier.predict

    def counting(classifier, images):
        if len(images) == len(IMAGES):
            seen.append(classifier._content)
        return predict(classifier, images)

    monkeypatch.setattr(Classifier, "predict", counting)
    made = convert(lopsided, "int8", representative=CALIBRATION, test=IMAGES, auto=True)
    assert made.kept_float
    assert made.content in seen
    assert len(seen) == len({*seen})


def test_auto_that_does_not_help_is_refused(trained):
    with pytest.raises(ParityError) as caught:
        convert(
            trained,
            "weight_int4",
            test=IMAGES,
            auto=True,
            min_agreement=1,
            max_error=1e-12,
        )
    assert len(caught.value.report.kept_float) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_bound_that_a_trained_network_keeps(trained, kind):
    images = CALIBRATION if kind in ("int8", "int16x8") else None
    made = convert(trained, kind, representative=images, test=IMAGES, labels=LABELS)
    assert made.report.agreement >= BOUNDS[kind].min_agreement
    assert BOUNDS[kind].broken_by(replace(made.report, agreement=0.8))


def test_the_largest_error_can_be_bound(trained):
    expected = trained.predict(IMAGES, verbose=0)
    actual = Classifier(convert(trained, "dynamic").content).predict(IMAGES)
    error = abs(expected - actual).max() / np.ptp(expected)
    convert(trained, "dynamic", test=IMAGES, max_error=1.01 * error)
    with pytest.raises(ParityError, match="largest error"):
        convert(trained, "dynamic", test=IMAGES, max_error=0.99 * error)


def test_ends_inside_the_file_change_nothing_of_the_comparison(trained):
    made = convert(trained, "none", test=IMAGES, labels=LABELS, scores="logits")
    plain = convert(trained, "none", test=IMAGES, labels=LABELS)
    assert made.report.keras_top1 == plain.report.keras_top1
    assert made.report.agreement == 1
    scores = Classifier(made.content).predict(IMAGES[:5])
    assert not np.allclose(scores.sum(1), 1)


@pytest.mark.parametrize("scores", ["model", "logits", "probabilities"])
def test_the_model_that_a_file_is_held_to_has_nothing_folded(trained, scores, monkeypatch):
    def fuse(model):
        """Folds wrongly."""
        fused = preparing_fuse(model)
        layer = next(each for each in fused.layers if each.weights)
        layer.set_weights([-weight for weight in layer.get_weights()])
        return fused

    preparing_fuse = preparing.fuse
    monkeypatch.setattr(preparing, "fuse", fuse)
    with pytest.raises(ParityError):
        convert(trained, test=IMAGES, scores=scores)


def test_images_that_are_given_are_enough_for_a_run_whose_own_are_gone(trained, tmp_path):
    source = Source(trained, folder=tmp_path / "gone")
    images = {"representative": CALIBRATION, "test": IMAGES}
    assert convert(source, "int8", **images).report.agreement > 0.9
    with pytest.raises(InputError, match="gone"):
        convert(source, "none")


def test_the_price_of_layers_that_were_named_is_known(trained):
    images = {"representative": CALIBRATION, "test": IMAGES}
    kept = convert(trained, "int8", keep_float=["dense"], **images)
    whole = convert(trained, "int8", **images)
    assert kept.report.kept_float_bytes == len(kept.content) - len(whole.content)
    assert whole.report.kept_float_bytes is None


def test_a_network_of_broken_scores_is_refused():
    parity = Parity(9, None, None, math.nan, math.nan, math.nan)
    assert all(bound.broken_by(parity) for bound in BOUNDS.values())
    assert bound_for("int8", 0.0, 1.0).broken_by(replace(parity, agreement=1.0))


@given(st.integers(1, 300), st.data())
def test_the_fewest_layers_are_found_in_few_tries(count, data):
    enough = data.draw(st.integers(1, count))
    layers = [str(number) for number in range(count)]
    tries = []

    def make(head):
        tries.append(len(head))
        return list(head)

    assert fewest(make, layers, lambda made: len(made) >= enough) == layers[:enough]
    assert len(tries) <= 2 * math.log2(count) + 3
    assert fewest(make, layers, lambda _: False) == layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantize": "int4"}, "quantize must be one of.*'int4'"),
        ({"min_agreement": 1.5}, r"min_agreement must be from 0 to 1, got 1\.5"),
        ({"min_agreement": math.nan}, "min_agreement must be"),
        ({"min_agreement": "0.9"}, "min_agreement must be from 0 to 1, got '0.9'"),
        ({"max_error": "0.1"}, "max_error must be greater than 0, got '0.1'"),
        ({"quantize": ["int8"]}, r"quantize must be one of.*\['int8'\]"),
        ({"quantize": "int8", "keep_float": None}, "keep_float must be a list.*None"),
        ({"threads": "2"}, "threads must be a whole number from 1 on, got '2'"),
        ({"threads": 1.5}, r"threads must be a whole number from 1 on, got 1\.5"),
        ({"max_error": 0.0}, r"max_error must be greater than 0, got 0\.0"),
        ({"auto": True}, "auto goes with quantize=.*'int8'.*'none'"),
        ({"auto": True, "quantize": "dynamic"}, "auto needs images to test.*test="),
        ({"test": IMAGES[:9, 1:]}, "test must be of shape"),
        ({"test": IMAGES, "labels": LABELS[1:]}, "labels must be of shape"),
        ({"pixels": True}, "preprocessing is known"),
        (
            {"test": np.random.default_rng(0).normal(size=(60, *SHAPE)).astype(np.float32)},
            "test must be real images, got noise",
        ),
    ],
)
def test_bad_arguments_are_refused(trained, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        convert(trained, **arguments)
    assert "\n" not in str(caught.value)
