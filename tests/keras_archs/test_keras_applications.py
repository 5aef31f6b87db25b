"""Every network that keras.applications has, weight for weight."""

from typing import Any

import keras
import numpy as np
import pytest

import keras_archs
from tests.keras_archs.helpers import assert_close, images, randomize

# One network of each of keras.applications' families.
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("MobileNet", {"alpha": 0.5}),
    ("MobileNetV2", {"alpha": 0.35}),
    ("MobileNetV3Small", {"alpha": 0.75, "minimalistic": False}),
    ("VGG16", {}),
    ("ResNet50", {}),
    ("ResNet50V2", {}),
    ("EfficientNetB0", {}),
    ("EfficientNetV2B0", {}),
    ("InceptionV3", {}),
    ("Xception", {}),
)
# What differs from those by more than its depth: other tables, roundings and options.
MORE: tuple[tuple[str, dict[str, Any]], ...] = (
    *[("MobileNet", {"alpha": alpha}) for alpha in (0.25, 1.0)],
    ("MobileNet", {"alpha": 0.4, "depth_multiplier": 2}),
    *[("MobileNetV2", {"alpha": alpha}) for alpha in (1.0, 1.4)],
    ("MobileNetV3Small", {"alpha": 1.0, "minimalistic": True}),
    ("MobileNetV3Large", {"alpha": 0.75, "minimalistic": False}),
    ("MobileNetV3Large", {"alpha": 1.0, "minimalistic": True}),
    ("VGG19", {}),
    ("ResNet101", {}),
    ("EfficientNetB1", {}),
    ("EfficientNetB3", {}),
    ("EfficientNetV2B2", {}),
    ("EfficientNetV2S", {}),
    ("InceptionResNetV2", {}),
)
SAME = [
    pytest.param(
        name,
        arguments,
        id=" ".join([name, *map(str, arguments.values())]),
        marks=[pytest.mark.slow] if more else [],
    )
    for more, cases in enumerate((FAMILIES, MORE))
    for name, arguments in cases
]
SIZES = (64, 97)


def reference_model(name, **arguments):
    """Theirs, for inputs in the range of the published weights, with weights that all matter."""
    if name.startswith(("MobileNetV3", "EfficientNetV2")):
        arguments["include_preprocessing"] = False
    model = getattr(keras.applications, name)(weights=None, **arguments)
    randomize(model)
    return model


def side(name, size):
    """The Inceptions and Xception need at least 75 and 71 pixels."""
    return size + 32 if name in {"InceptionV3", "InceptionResNetV2", "Xception"} else size


def with_weights(model):
    """The layers that hold weights. EfficientNet's normalisation is preprocessing with us."""
    kinds = keras.layers.Normalization
    return [layer for layer in model.layers if layer.weights and not isinstance(layer, kinds)]


def call(reference, x):
    """Theirs on `x`; EfficientNet's cannot leave out its division by 255."""
    scaled = 255 * x if reference.name.startswith("efficientnetb") else x
    return np.asarray(reference(scaled))


def carried(name, reference, **arguments):
    """Ours with the weights of the reference."""
    weights = [w for layer in with_weights(reference) for w in layer.get_weights()]
    model = getattr(keras_archs, name)(**arguments)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in weights]
    model.set_weights(weights)
    return model


@pytest.mark.parametrize(("name", "arguments"), SAME)
def test_same_logits_and_names(name, arguments):
    size = side(name, SIZES[0])
    arguments = {**arguments, "input_shape": (size, size, 3), "classes": 7}
    reference = reference_model(name, **arguments, classifier_activation=None)
    model = carried(name, reference, **arguments, classifier_activation=None)
    assert_close(np.asarray(model(images(size))), call(reference, images(size)), 1e-5)

    pairs = zip(
        [layer.name for layer in model.layers if layer.weights],
        [layer.name for layer in with_weights(reference)],
        strict=True,
    )
    # Layers that they leave unnamed have other names in the next model.
    unnamed = ("conv2d", "batch_normalization")
    assert [p for p in pairs if p[0] != p[1] and not p[1].startswith(unnamed)] == []


@pytest.mark.parametrize(("name", "arguments"), SAME)
def test_same_features_at_even_and_odd_sizes(name, arguments):
    model = None
    for size in (side(name, size) for size in SIZES):
        # A known size for theirs: with an unknown one some of them pad as if it were even.
        shape = (size, size, 3)
        reference = reference_model(name, **arguments, input_shape=shape, include_top=False)
        if model is None:
            model = carried(name, reference, **arguments, include_top=False)
        else:
            weights = [w for layer in with_weights(model) for w in layer.get_weights()]
            for layer in with_weights(reference):
                count = len(layer.weights)
                layer.set_weights(weights[:count])
                del weights[:count]
        assert_close(np.asarray(model(images(size))), call(reference, images(size)), 1e-5)


@pytest.mark.full
@pytest.mark.jax
@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "MobileNetV3Small", "EfficientNetB0"])
def test_same_logits_on_any_backend(name):
    test_same_logits_and_names(name, {})


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("name", ["MobileNet", "ResNet50"])
def test_same_pooled_features(name, pooling):
    arguments = {"input_shape": (64, 64, 3), "include_top": False, "pooling": pooling}
    reference = reference_model(name, **arguments)
    model = carried(name, reference, **arguments)
    assert_close(np.asarray(model(images(64))), call(reference, images(64)), 1e-5)


@pytest.mark.parametrize("name", ["MobileNet", "VGG11", "ResNet18", "InceptionV1"])
def test_probabilities_are_the_softmax_of_the_logits(name):
    shape = {"input_shape": (64, 64, 3), "classes": 7}
    logits = getattr(keras_archs, name)(**shape, classifier_activation=None)
    probabilities = getattr(keras_archs, name)(**shape)
    probabilities.set_weights(logits.get_weights())
    exponentials = np.exp(np.asarray(logits(images(64)), "float64"))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(images(64)), softmax, atol=1e-5)
