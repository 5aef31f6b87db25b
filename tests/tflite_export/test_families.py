"""A network of each family as a file of every kind: what is in it, and what it computes."""

import functools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_archs.registry import find
from tests.tflite_export import fitted_networks as networks
from tests.tflite_export.files import lower
from tflite_export.runtime.classifier import Classifier
from tflite_export.settings import CALIBRATED, KINDS
from tflite_export.tflite_file.delegates import operators

CASES = {
    "vgg": ("vgg11", {"batch_norm": True}),
    "inception": ("inceptionv1", {"batch_norm": True}),
    "resnet": ("resnet18v2", {}),
    "mobilenet": ("mobilenetv3small", {"alpha": 0.75}),
    "efficientnet": ("efficientnet", {"depth_coefficient": 0.3}),
    "attention": ("resnet18", {"attention": {2: "se", 3: "gc", 4: "non_local"}}),
}
# What XNNPACK leaves to the interpreter; docs/tflite.md says why.
LEFT = {
    "dynamic": {"DEPTHWISE_CONV_2D"},
    "none": {"MAX_POOL_2D"},
    "int8": {
        *("ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "EXP", "GELU", "LOG", "MAX_POOL_2D", "RELU"),
        *("RSQRT", "SOFTMAX"),
    },
    "weight_int4": {"CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED"},
}
# The same for `Reshape` and `Flatten` with an open batch.
OPEN_BATCH = {"SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE"}
# Bounds of the root of the mean square of the logits' errors, in deviations of the logits, and of
# the share of images that stay in their class.
BOUNDS = {
    "none": (1e-4, 1.0),
    "float16": (0.02, 0.95),
    "weight_int8": (0.15, 0.9),
    "dynamic": (0.25, 0.9),
    "int16x8": (0.15, 0.9),
    "int8": (0.4, 0.8),
    "weight_int4": (1.5, 0.3),
}
# One network of the fast ones as all kinds, the others as those that differ most; the rest of the
# kinds in `make test-slow`.
FAST = {("mobilenet", kind) for kind in KINDS} | {
    (family, kind) for family in ("efficientnet", "attention") for kind in ("none", "int8")
}


@functools.cache
def of_family(family):
    name, arguments = CASES[family]
    data = networks.images(name, side=32, fitted=200, tested=40)
    return networks.network(name, data, **arguments), data


@pytest.mark.full
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, marks=() if (family, kind) in FAST else pytest.mark.slow)
        for family in CASES
        for kind in KINDS
    ],
)
def test_each_family_as_each_kind(family, kind):
    model, data = of_family(family)
    content = lower(model, kind, representative=data.train[:64] if kind in CALIBRATED else None)
    found = operators(content)
    assert not any(each.custom for each in found)
    if kind != "int16x8":  # which no delegate computes
        assert {each.name for each in found if not each.xnnpack} <= LEFT.get(kind, set())
        assert all(each.gpu for each in found)
    expected = model.predict(data.test, verbose=0)
    scores = Classifier(content).predict(data.test)
    error, agreement = BOUNDS[kind]
    assert rms(scores - expected) < error * expected.std()
    assert np.mean(scores.argmax(axis=1) == expected.argmax(axis=1)) >= agreement
    right = np.mean(expected.argmax(axis=1) == data.test_labels)
    assert right > 0.4, "a network that sees nothing would be no test"


@pytest.mark.full
@pytest.mark.parametrize("family", ["mobilenet", "attention"])
def test_each_family_with_an_open_batch(family):
    model, data = of_family(family)
    content = lower(model, batch=None)
    left = {each.name for each in operators(content) if not each.xnnpack}
    assert left <= LEFT["none"] | OPEN_BATCH
    runner = Interpreter(model_content=content).get_signature_runner()
    (scores,) = runner(image=data.test[:3]).values()
    expected = model.predict(data.test[:3], verbose=0)
    assert np.abs(scores - expected).max() < 1e-3 * expected.std()


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


# Of what the families above have beside: in float and in int8, without the table's other columns.
MORE = {
    "mobilenet": {"alpha": 0.25},
    "mobilenetv2": {"alpha": 0.35},
    "mobilenetv4convsmall": {},
}
MORE_SLOW = (
    *("vgg16", "inceptionv1", "inceptionv2", "inceptionv3", "inceptionv4", "inceptionresnetv2"),
    *("xception", "resnet18d", "resnet50", "resnet50v2", "resnext50", "wideresnet50"),
    *("seresnext50", "resnetrs50", "mobilenetv3large", "mobilenetv4hybridmedium"),
    *("efficientnetlite0", "efficientnetb0", "efficientnetv2b0", "nonlocalresnet50"),
    *("gcresnet50", "cbamresnet50", "ecaresnet50", "botnet50", "aaresnet50", "coatnet0"),
)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("name", [*MORE, *MORE_SLOW])
def test_more_networks_in_float_and_in_integers(name):
    side = max(32, find(name).family.min_size)
    data = networks.images(name, side, fitted=128, tested=20)
    model = networks.network(name, data, **MORE.get(name, {}))
    expected = model.predict(data.test, verbose=0)
    for kind in ("none", "int8"):
        calibration = data.train[:50] if kind == "int8" else None
        content = lower(model, kind, representative=calibration)
        found = operators(content)
        assert not any(each.custom for each in found)
        assert {each.name for each in found if not each.xnnpack} <= LEFT.get(kind, set())
        assert all(each.gpu for each in found)
        error = Classifier(content).predict(data.test) - expected
        # Smaller images, fewer to calibrate with: half as much again as above.
        assert rms(error) < 1.5 * BOUNDS[kind][0] * expected.std()
