"""Stages that are computed twice: the same training, to the bit."""

import keras
import numpy as np
import pytest

import keras_archs
from tests.keras_archs.helpers import images
from tests.keras_archs.test_builders import build


# Swish, squeeze-and-excitation and stochastic depth; hard-swish; attention; additions of ReLU.
@pytest.mark.full
@pytest.mark.parametrize(
    ("case", "policy"),
    [
        ("mobilenetv3small", "float32"),
        ("resnet18", "mixed_bfloat16"),
        *[
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("coatnet0", "float32"),
                ("efficientnetb0", "float32"),
                ("efficientnetb0", "mixed_bfloat16"),
                ("mobilenetv3small", "mixed_bfloat16"),
                ("coatnet0", "mixed_bfloat16"),
                ("resnet18", "float32"),
            )
        ],
    ],
)
def test_training_is_that_of_the_network(case, policy):
    keras.config.set_dtype_policy(policy)
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        models.append(build(case, input_shape=(64, 64, 3), classes=5))
    plain, other = models
    levels = [feature.level for feature in keras_archs.feature_info(other)]
    lean = keras_archs.rematerialize(other, levels)
    x, y = images(64, count=8), np.arange(8) % 5
    for model in (plain, lean):
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    for _ in range(3):
        np.testing.assert_allclose(lean.train_on_batch(x, y), plain.train_on_batch(x, y), 1e-5)
    for mine, theirs in zip(other.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lean(x), other(x), atol=1e-6)


@pytest.mark.full
def test_saved_and_loaded(tmp_path):
    model = build("mobilenet", input_shape=(64, 64, 3), classes=5)
    lean = keras_archs.rematerialize(model, [1, 3])
    lean.save(tmp_path / "lean.keras")
    loaded = keras.saving.load_model(tmp_path / "lean.keras")
    np.testing.assert_array_equal(loaded(images(64)), model(images(64)))


def test_bad_input():
    model = build("mobilenet", input_shape=(64, 64, 3), include_top=False)
    with pytest.raises(ValueError, match=r"levels=\[1, 9\].*no map of level 9.*\[1, 2, 3, 4, 5\]"):
        keras_archs.rematerialize(model, [9, 1])
    theirs = keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match=r"conv1_bn.*level 1.*BatchNormalization"):
        keras_archs.rematerialize(theirs, [1])
    dropout = keras_archs.insert(model, keras.layers.Dropout(0.1), after="conv_pw_1_relu")
    with pytest.raises(ValueError, match=r"level 1.*Dropout"):
        keras_archs.rematerialize(dropout, [1])
    keras_archs.rematerialize(dropout, [2])
    flipped = keras_archs.insert(model, keras.layers.RandomFlip(), after="conv_pw_1_relu")
    with pytest.raises(ValueError, match=r"level 1.*RandomFlip"):
        keras_archs.rematerialize(flipped, [1])
    penalty = keras.layers.ActivityRegularization(l2=0.1)
    penalized = keras_archs.insert(model, penalty, after="conv_pw_3_relu")
    with pytest.raises(ValueError, match=r"level 2.*ActivityRegularization"):
        keras_archs.rematerialize(penalized, [2])
    with pytest.raises(ValueError, match=r"one output.*3"):
        keras_archs.rematerialize(build("inceptionv1", auxiliary=True), [2])


def test_random_layers_that_are_used_twice():
    """The factors of both uses are those of the first time."""
    losses = []
    for again in (False, True):
        keras.utils.set_random_seed(5)
        depth = keras_archs.StochasticDepth(0.5, seed=1)
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
        x = keras.layers.ReLU()(depth(depth(x) + x))
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)
        outputs = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, outputs)
        lean = keras_archs.rematerialize(model, [1, 2]) if again else model
        lean.compile(keras.optimizers.SGD(0.5), "mse")
        x, y = images(16, count=8), np.zeros((8, 5))
        losses.append([lean.train_on_batch(x, y) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
