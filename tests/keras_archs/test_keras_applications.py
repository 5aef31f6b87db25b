"""Every network that keras.applications has, weight for weight."""

import keras
import numpy as np
import pytest

import keras_archs
from tests.keras_archs.helpers import assert_close, images, randomize

# (builder, reference, arguments of both)
SAME = [
    *[("MobileNet", "MobileNet", {"alpha": alpha}) for alpha in (0.25, 0.5, 0.75, 1.0)],
    ("MobileNet", "MobileNet", {"alpha": 0.4, "depth_multiplier": 2}),
    *[(name, name, {}) for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")],
]
IDS = [" ".join([ours, *map(str, arguments.values())]) for ours, _, arguments in SAME]
SIZES = (64, 97)


def pair(ours, theirs, **arguments):
    reference = getattr(keras.applications, theirs)(weights=None, **arguments)
    randomize(reference)
    model = getattr(keras_archs, ours)(**arguments)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in reference.get_weights()]
    model.set_weights(reference.get_weights())
    return model, reference


@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
@pytest.mark.parametrize("size", SIZES)
def test_same_logits_and_probabilities(ours, theirs, arguments, size):
    model, reference = pair(
        ours,
        theirs,
        **arguments,
        input_shape=(size, size, 3),
        classes=7,
        classifier_activation=None,
    )
    x = images(size)
    logits = reference(x).numpy()
    assert_close(model(x).numpy(), logits, 1e-5)

    probabilities = getattr(keras_archs, ours)(**arguments, input_shape=(size, size, 3), classes=7)
    probabilities.set_weights(reference.get_weights())
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(x), softmax, atol=1e-5)


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
def test_same_features(ours, theirs, arguments, pooling):
    model, reference = pair(ours, theirs, **arguments, include_top=False, pooling=pooling)
    for size in SIZES:
        assert_close(model(images(size)).numpy(), reference(images(size)).numpy(), 1e-5)


@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
def test_layers_with_weights_have_the_names_of_keras_applications(ours, theirs, arguments):
    arguments = {**arguments, "input_shape": (64, 64, 3), "classes": 7}
    model = getattr(keras_archs, ours)(**arguments)
    reference = getattr(keras.applications, theirs)(weights=None, **arguments)
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == [layer.name for layer in reference.layers if layer.weights]
