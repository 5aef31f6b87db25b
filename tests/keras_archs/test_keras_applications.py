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
    *[("MobileNetV2", "MobileNetV2", {"alpha": alpha}) for alpha in (0.35, 1.0, 1.4)],
    *[
        (name, name, {"alpha": alpha, "minimalistic": minimalistic})
        for name in ("MobileNetV3Small", "MobileNetV3Large")
        for alpha, minimalistic in ((0.75, False), (1.0, False), (1.0, True))
    ],
    *[(name, name, {}) for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")],
    *[(name, name, {}) for name in ("ResNet50V2", "ResNet101V2", "ResNet152V2")],
    *[(name, name, {}) for name in ("EfficientNetB0", "EfficientNetB1", "EfficientNetB3")],
    *[(name, name, {}) for name in ("EfficientNetV2B0", "EfficientNetV2B2", "EfficientNetV2S")],
    *[(name, name, {}) for name in ("InceptionV3", "InceptionResNetV2", "Xception")],
]
IDS = [" ".join([ours, *map(str, arguments.values())]) for ours, _, arguments in SAME]
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
    return reference(255 * x if reference.name.startswith("efficientnetb") else x).numpy()


def pair(ours, theirs, **arguments):
    reference = reference_model(theirs, **arguments)
    weights = [w for layer in with_weights(reference) for w in layer.get_weights()]
    model = getattr(keras_archs, ours)(**arguments)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in weights]
    model.set_weights(weights)
    return model, reference


@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
@pytest.mark.parametrize("size", SIZES)
def test_same_logits_and_probabilities(ours, theirs, arguments, size):
    size = side(ours, size)
    model, reference = pair(
        ours,
        theirs,
        **arguments,
        input_shape=(size, size, 3),
        classes=7,
        classifier_activation=None,
    )
    x = images(size)
    logits = call(reference, x)
    assert_close(model(x).numpy(), logits, 1e-5)

    probabilities = getattr(keras_archs, ours)(**arguments, input_shape=(size, size, 3), classes=7)
    probabilities.set_weights(model.get_weights())
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(x), softmax, atol=1e-5)


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
def test_same_features(ours, theirs, arguments, pooling):
    # A known size for theirs: with an unknown one some of them pad as if it were even.
    for size in (side(ours, size) for size in SIZES):
        model, reference = pair(
            ours,
            theirs,
            **arguments,
            input_shape=(size, size, 3),
            include_top=False,
            pooling=pooling,
        )
        assert_close(model(images(size)).numpy(), call(reference, images(size)), 1e-5)


@pytest.mark.parametrize(("ours", "theirs", "arguments"), SAME, ids=IDS)
def test_layers_with_weights_have_the_names_of_keras_applications(ours, theirs, arguments):
    arguments = {**arguments, "input_shape": (96, 96, 3), "classes": 7}
    model = getattr(keras_archs, ours)(**arguments)
    reference = reference_model(theirs, **arguments)
    pairs = zip(
        [layer.name for layer in model.layers if layer.weights],
        [layer.name for layer in with_weights(reference)],
        strict=True,
    )
    # Layers that they leave unnamed have other names in the next model.
    unnamed = ("conv2d", "batch_normalization")
    assert [p for p in pairs if p[0] != p[1] and not p[1].startswith(unnamed)] == []
