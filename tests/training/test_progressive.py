"""Images that grow with the epochs."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_archs
import training
from keras_archs.errors import InputError
from keras_archs.graph import symbolic
from training.model.progressive_resizing import any_size
from training.settings.image_sizes import make_stages


def config(**changes):
    return training.TrainConfig(model="mobilenet", dataset="any", warmup_epochs=0, **changes)


@settings(max_examples=50, deadline=None)
@given(epochs=st.integers(1, 400), first=st.integers(1, 8), more=st.integers(1, 8))
def test_stages_cover_all_epochs_and_end_in_the_whole_size(epochs, first, more):
    sizes = [32 * first, 32 * (first + more)]
    stages = make_stages(config(epochs=epochs, progressive_from=sizes[0]), sizes[1])
    assert [e for each in stages for e in range(each.first, each.stop)] == list(range(epochs))
    assert stages[-1].image_size == sizes[1]
    assert all(each.image_size % 32 == 0 for each in stages)
    assert [each.image_size for each in stages] == sorted(each.image_size for each in stages)
    if epochs >= 4:
        assert len(stages) == 4
        assert stages[0].image_size == sizes[0]
        lengths = [each.stop - each.first for each in stages]
        assert max(lengths) - min(lengths) <= 1
        # RandAugment's magnitude in table 6: 5 in the first stage, 15 in the last.
        strengths = [each.strength for each in stages]
        assert strengths == pytest.approx(np.linspace(5, 15, 4) / 15)


def test_sizes_of_the_paper():
    """EfficientNetV2-M's 128 to 380 pixels (table 6), to the next multiple of 32."""
    stages = make_stages(config(epochs=350, progressive_from=128), 384)
    assert [each.image_size for each in stages] == [128, 224, 288, 384]


@pytest.mark.parametrize(
    ("first", "size", "message"),
    [
        (48, 64, "progressive_from=48 must be a multiple"),
        (32, 100, "image_size=100"),
        (64, 64, "below"),
    ],
)
def test_bad_sizes_are_named(first, size, message):
    with pytest.raises(InputError, match=message):
        make_stages(config(progressive_from=first), size)


@pytest.mark.parametrize("name", ["mobilenetv2", "mobilenetv3small"])
def test_a_model_of_any_size_is_the_network_of_each_size(name):
    build = partial(keras_archs.create_model, name, alpha=0.35 if name[-1] == "2" else 0.75)
    networks = {s: build(input_shape=(s, s, 3), classes=3) for s in (96, 64)}
    model = any_size(networks[96], partial(build, classes=3))
    networks[64].set_weights(networks[96].get_weights())
    for size, network in networks.items():
        images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype("float32")
        np.testing.assert_allclose(model(images), network(images), rtol=1e-4, atol=1e-6)
    model.trainable_weights[0].assign_add(np.ones(model.trainable_weights[0].shape))
    np.testing.assert_array_equal(model.trainable_weights[0], networks[96].trainable_weights[0])


@pytest.mark.parametrize("name", ["coatnet0", "botnet50", "vgg11"])
def test_networks_of_one_size_are_refused(name):
    build = partial(keras_archs.create_model, name, classes=3)
    with symbolic():
        network = build(input_shape=(64, 64, 3))
    with pytest.raises(InputError, match=r"progressive_from is not possible with .*fixed height"):
        any_size(network, build)
