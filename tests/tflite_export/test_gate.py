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
from scipy.stats import beta

from keras_archs.analysis.real_images import check_real
from keras_archs.errors import InputError
from keras_archs.preprocessing import CAFFE, TF, TORCH, Preprocessing
from tests.tflite_export.files import lower
from tests.tflite_export.networks import CLASSES, SHAPE, stripes
from tflite_export import (
    KINDS,
    Classifier,
    NotFiniteError,
    ParityError,
    Source,
    conversion,
    convert,
    read_metadata,
)
from tflite_export.lowering import lower as lowering
from tflite_export.lowering import prepare as preparing
from tflite_export.settings import CALIBRATED
from tflite_export.stand_ins import stand_ins
from tflite_export.tflite_file.serialize import pack, unpack
from tflite_export.verification.gate import BOUNDS, fewest
from tflite_export.verification.parity import Parity

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
    same = np.sum(expected == actual)
    interval = beta.ppf([0.025, 0.975], [same, same + 1], [401 - same, 400 - same])
    numbers = (agreement, *interval, BOUNDS["int8"].min_agreement, np.mean(actual == LABELS))
    for number in numbers:
        assert f"{number:.2%}" in str(refused)
    assert f"{same} of 400 images" in str(refused)
    for remedy in ("More test images", "--auto", "--min-agreement"):
        assert remedy in str(refused)
    written = json.loads(refused.report.json())
    assert written["agreement_interval"] == pytest.approx(list(interval))


def test_the_refused_file_is_kept_aside_and_nothing_under_its_name(refused, tmp_path):
    path = refused.keep_aside(tmp_path / "model.tflite")
    assert path == tmp_path / "model.rejected.tflite"
    assert path.read_bytes() == refused.content
    kept = json.loads((tmp_path / "model.rejected.json").read_text())
    assert kept["agreement"] == refused.report.agreement
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(InputError, match="existing folder"):
        refused.keep_aside(tmp_path / "missing" / "model.tflite")


@pytest.mark.full
def test_auto_keeps_the_two_layers_at_the_lopsided_map_in_float(lopsided, refused):
    made = convert(
        lopsided, "int8", representative=CALIBRATION, test=IMAGES, labels=LABELS, auto=True
    )
    assert set(made.kept_float) == set(made.report.kept_float) == {"first", "second"}
    assert made.report.agreement >= BOUNDS["int8"].min_agreement
    price = len(made.content) - len(refused.content)
    assert made.report.kept_float_bytes == price > 0
    assert f"This adds {price / 1e3:.1f} kB to the file" in made.report.price()
    assert "first" in made.report.price()


@pytest.mark.full
def test_auto_leaves_a_good_file_as_it_is(trained):
    plain, auto = (
        convert(trained, "int8", representative=CALIBRATION, test=IMAGES, auto=auto)
        for auto in (False, True)
    )
    assert auto.content == plain.content
    assert auto.kept_float == ()
    assert auto.report.keras_top1 is auto.report.tflite_top1 is None


@pytest.mark.full
def test_each_file_sees_the_test_images_once(lopsided, monkeypatch):
    seen = []
    predict = Classifier.predict

    def counting(classifier, images):
        if len(images) == len(IMAGES):
            seen.append(classifier._content)
        return predict(classifier, images)

    monkeypatch.setattr(Classifier, "predict", counting)
    source = Source(lopsided, tuple("abcd"), Preprocessing(mean=(127.5,), scale=50.0))
    made = convert(source, "int8", representative=CALIBRATION, test=IMAGES, auto=True)
    assert made.kept_float
    assert made.content in seen  # as it is written, with metadata
    assert read_metadata(made.content).class_names == tuple("abcd")
    assert len(seen) == len({*seen})


@pytest.mark.full
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


@pytest.mark.full
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


@pytest.mark.full
def test_ends_inside_the_file_change_nothing_of_the_comparison(trained):
    made = convert(trained, "none", test=IMAGES, labels=LABELS, scores="logits")
    plain = convert(trained, "none", test=IMAGES, labels=LABELS)
    assert made.report.keras_top1 == plain.report.keras_top1
    assert made.report.agreement == 1
    scores = Classifier(made.content).predict(IMAGES[:5])
    assert not np.allclose(scores.sum(1), 1)


@pytest.mark.full
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


@pytest.mark.full
def test_images_that_are_given_are_enough_for_a_run_whose_own_are_gone(trained, tmp_path):
    source = Source(trained, folder=tmp_path / "gone")
    images = {"representative": CALIBRATION, "test": IMAGES}
    assert convert(source, "int8", **images).report.agreement > 0.9
    with pytest.raises(InputError, match="gone"):
        convert(source, "none")


@pytest.mark.full
def test_the_price_of_layers_that_were_named_is_known(trained):
    images = {"representative": CALIBRATION, "test": IMAGES}
    kept = convert(trained, "int8", keep_float=["dense"], **images)
    whole = convert(trained, "int8", **images)
    assert kept.report.kept_float_bytes == len(kept.content) - len(whole.content)
    assert whole.report.kept_float_bytes is None


def parity_of(images, differing):
    return Parity(images, None, None, 1 - differing / images, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("images", [1, 15, 40, 2000])
def test_the_interval_of_a_file_that_always_agrees(images):
    """It has a formula: the share of which all of so many images agree in 2.5% of the cases."""
    low, high = parity_of(images, 0).agreement_interval
    assert (low, high) == (pytest.approx(0.025 ** (1 / images)), 1)


@pytest.mark.parametrize(
    ("images", "differing", "refused_in"),
    [
        (40, 0, []),
        (40, 1, []),
        (40, 4, ["none", "float16"]),
        (40, 30, [*KINDS]),
        (8, 1, ["none"]),
        (8, 6, [*KINDS]),
        # With many images, what the bound itself says, but for a point or less.
        (2000, 2, []),
        (2000, 60, ["none", "float16"]),
        (2000, 80, ["none", "float16", "dynamic", "int16x8", "weight_int8"]),
        (2000, 125, [kind for kind in KINDS if kind != "weight_int4"]),
        (2000, 340, [*KINDS]),
    ],
)
def test_a_file_is_refused_if_the_images_prove_it_worse(images, differing, refused_in):
    parity = parity_of(images, differing)
    assert [kind for kind in KINDS if BOUNDS[kind].broken_by(parity)] == refused_in


def test_forty_images_of_which_one_differs_let_a_sound_file_through(trained):
    content = convert(trained, "weight_int4").content
    expected = trained.predict(IMAGES, verbose=0).argmax(1)
    same = Classifier(content).predict(IMAGES).argmax(1) == expected
    chosen = [*np.flatnonzero(~same)[:1], *np.flatnonzero(same)[:39]]
    report = convert(trained, "weight_int4", test=IMAGES[chosen], min_agreement=0.999).report
    assert (report.images, report.agreement) == (40, 0.975)


def turned(model):
    """A copy that prefers the classes which the model thinks least of."""
    copy = keras.models.clone_model(model)
    *others, kernel, bias = model.get_weights()
    copy.set_weights([*others, -kernel, -bias])
    return copy


def test_one_image_is_enough_to_see_that_a_file_says_something_else(trained, monkeypatch):
    other = lower(turned(trained), "dynamic")
    monkeypatch.setattr(conversion, "lower", lambda *_, **__: other)
    with pytest.raises(
        ParityError, match=r"deviation +1\d\d\.\d\d% of the probabilities, at most 100"
    ):
        convert(trained, "dynamic", test=IMAGES[0])


def with_nan(content):
    """A file with NaN among its biases; it gives NaN for all images."""
    file = unpack(content)
    (bias,) = [x for x in file.subgraphs[0].tensors if list(x.shape) == [CLASSES] and x.buffer]
    values = file.buffers[bias.buffer].data.view(np.float32).copy()
    values[1] = np.nan
    file.buffers[bias.buffer].data = values.view(np.uint8)
    return pack(file)


@pytest.mark.parametrize("test", [None, IMAGES[:50]])
def test_nan_of_a_file_ends_the_gate_at_once(trained, monkeypatch, test):
    made = []

    def lower_once(*arguments, **options):
        _, settings = arguments
        made.append(settings.keep_float)
        return with_nan(lowering.lower(*arguments, **options))

    monkeypatch.setattr(conversion, "lower", lower_once)
    with pytest.raises(
        NotFiniteError, match=r"the file returns NaN .* (16|50) of \1 images"
    ) as error:
        convert(trained, "weight_int8", test=test, auto=test is not None)
    assert made == [()]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"test": IMAGES, "auto": True}])
def test_nan_of_a_model_ends_the_gate_before_the_work(trained, monkeypatch, broken, options):
    model = keras.models.clone_model(trained)
    model.layers[-1].activation = keras.activations.linear
    *others, bias = trained.get_weights()
    model.set_weights([*others, bias + np.array([0, broken, 0, 0])])
    monkeypatch.setattr(conversion, "lower", None)
    with pytest.raises(NotFiniteError, match=r"model returns NaN .* (16|400) of \1 images"):
        convert(model, "dynamic", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_without_test_images_a_file_that_says_something_else_is_refused(trained, monkeypatch, kind):
    images = CALIBRATION if kind in CALIBRATED else None
    sound = convert(trained, kind, representative=images)
    assert sound.report is None
    assert sound.stand_in.images == 16
    assert sound.stand_in.deviation < BOUNDS[kind].max_deviation / 3

    def broken(model, settings, **options):
        return lowering.lower(turned(model), settings, **options)

    monkeypatch.setattr(conversion, "lower", broken)
    with pytest.raises(ParityError) as caught:
        convert(trained, kind, representative=images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preprocessing", [None, TF, TORCH, CAFFE])
@pytest.mark.parametrize("shape", [(24, 24, 3), (7, 20, 1)])
def test_generated_images_are_like_photographs(shape, preprocessing):
    images = stand_ins(shape, preprocessing)
    np.testing.assert_array_equal(images, stand_ins(shape, preprocessing))
    assert (images.shape, images.dtype) == ((16, *shape), np.float32)
    pixels = (preprocessing or TF).undo(images)
    np.testing.assert_allclose(pixels.min(axis=(1, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(pixels.max(axis=(1, 2, 3)), 255, atol=1e-3)
    check_real("images", images, preprocessing)


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
        ({"threads": "2"}, "threads must be a positive integer, got '2'"),
        ({"threads": 1.5}, r"threads must be a positive integer, got 1\.5"),
        ({"max_error": 0.0}, r"max_error must be greater than 0, got 0\.0"),
        ({"auto": True}, "auto works with quantize=.*'int8'.*'none'"),
        ({"auto": True, "quantize": "dynamic"}, "auto needs images to test.*test="),
        ({"test": IMAGES[:9, 1:]}, "test must be of shape"),
        ({"test": IMAGES, "labels": LABELS[1:]}, "labels must have the shape"),
        ({"pixels": True}, "pixels=True .*known preprocessing.*--preprocessing"),
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
