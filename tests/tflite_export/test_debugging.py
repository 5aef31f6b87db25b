"""Losses by layer against files that were quantized, and against networks spoilt on purpose."""

import keras
import numpy as np
import pytest

from keras_archs.errors import InputError
from tests.tflite_export.files import lower
from tests.tflite_export.networks import build, stripes
from tflite_export import Classifier, convert, debug, quantize_aware

IMAGES = stripes(60, seed=1)[0]
CALIBRATION = stripes(100, seed=2)[0]


def debugged(model, kind):
    images = CALIBRATION if kind in {"int8", "int16x8"} else None
    content = lower(model, kind, representative=images)  # `convert` would refuse the spoilt one
    return content, debug(model, kind, content, IMAGES)


def test_losses_are_named_sorted_and_add_up_to_that_of_the_file(trained):
    """Roundings are about independent, so their squares add up."""
    content, losses = debugged(trained, "int8")
    assert [each.alone for each in losses] == sorted((e.alone for e in losses), reverse=True)
    # Batch norms and activations are inside of the convolutions.
    convolutions = [each.name for each in trained.layers if "conv" in each.name]
    assert {each.layer for each in losses} == {*convolutions, "global_average_pooling2d", "dense"}

    expected = np.array(trained(IMAGES[:32]))
    error = Classifier(content).predict(IMAGES[:32]) - expected
    file_loss = np.sqrt(np.mean(error**2)) / np.ptp(expected)
    together = np.sqrt(sum(each.alone**2 for each in losses))
    assert file_loss / 2 < together < file_loss * 2


@pytest.mark.full
def test_noise_of_the_last_layer_is_that_of_the_scores(trained):
    content, losses = debugged(trained, "int8")
    expected = np.array(trained(IMAGES[:32]))
    noise = Classifier(content).predict(IMAGES[:32]) - expected
    ratios = np.mean(expected**2, 1) / np.mean(noise**2, 1)
    (dense,) = [each for each in losses if each.layer == "dense"]
    assert dense.noise_db == pytest.approx(10 * np.log10(np.mean(ratios)), abs=0.5)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["int8", "int16x8", "dynamic", "weight_int8", "weight_int4"])
def test_the_layer_whose_weights_do_not_fit_is_the_worst(trained, kind):
    """One weight of each channel is far greater than the others, which 8 bits round to nothing."""
    model = build()
    model.set_weights(trained.get_weights())
    spoilt = model.get_layer(index=6)
    kernel = spoilt.get_weights()[0]
    kernel[0, 0, 0, :] = 300 * np.abs(kernel).max()
    spoilt.set_weights([kernel])
    # The large weights get a channel that is always 0: the network is what it was without it.
    norm = model.get_layer(index=4)
    gamma, beta, *rest = norm.get_weights()
    gamma[0], beta[0] = 0, 0
    norm.set_weights([gamma, beta, *rest])
    assert debugged(model, kind)[1][0].layer == spoilt.name
    assert debugged(model, kind)[1][0].alone > 5 * debugged(trained, kind)[1][0].alone


@pytest.mark.full
@pytest.mark.parametrize("kind", ["int8", "int16x8"])
def test_layers_that_stay_in_float_lose_nothing(trained, kind):
    content = convert(
        trained, kind, representative=CALIBRATION, keep_float=["depthwise_conv2d"]
    ).content
    found = {each.layer for each in debug(trained, kind, content, IMAGES)}
    assert "depthwise_conv2d" not in found
    assert "dense" in found


@pytest.mark.full
@pytest.mark.parametrize("kind", ["dynamic", "weight_int8"])
def test_layers_whose_weights_stay_in_float_lose_nothing(trained, kind):
    content = convert(trained, kind, keep_float=["conv2d_1"]).content
    found = {each.layer for each in debug(trained, kind, content, IMAGES, keep_float=["conv2d_1"])}
    assert "conv2d_1" not in found
    assert "conv2d_1" in {each.layer for each in debugged(trained, kind)[1]}


@pytest.mark.full
def test_the_ends_of_a_file_are_taken_as_it_was_told(trained):
    model = keras.Model(trained.inputs, trained.outputs)
    content = convert(model, "int8", representative=CALIBRATION, scores="logits").content
    losses = debug(model, "int8", content, IMAGES, scores="logits")
    assert losses[0].alone < 0.05
    assert all(each.noise_db > 10 for each in losses)


@pytest.mark.full
def test_bad_arguments_are_refused(trained):
    content = convert(trained).content
    with pytest.raises(InputError, match=r"quantize to be one of .*int8.*got 'float16'"):
        debug(trained, "float16", content, IMAGES)
    with pytest.raises(InputError, match="images must be of shape"):
        debug(trained, "int8", content, IMAGES[:, 1:])
    aware = quantize_aware(keras.Model(trained.inputs, trained.outputs), CALIBRATION)
    with pytest.raises(InputError, match="no float file to compare with"):
        debug(aware, "int8", convert(aware, "int8").content, IMAGES)
