"""A network of each family as a file of every kind: what is in it, and what it computes.

`make tflite-matrix` does the same for all networks; its table is tested here as well.
"""

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from docs.tflite import measure, networks, page
from docs.tflite.measure import Row
from tflite_export.lowering import KINDS

ROOT = Path(__file__).parents[2]
CASES = {
    "vgg": ("vgg11", {"batch_norm": True}),
    "inception": ("inceptionv1", {}),
    "resnet": ("resnet18v2", {}),
    "mobilenet": ("mobilenetv3small", {"alpha": 0.75}),
    "efficientnet": ("efficientnetv2b0", {}),
    "attention": ("resnet18", {"attention": {2: "se", 3: "gc", 4: "non_local"}}),
}
# What XNNPACK leaves to the interpreter; docs/tflite.md says why.
LEFT = {
    "dynamic": {"DEPTHWISE_CONV_2D"},
    "int8": {"ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "HARD_SWISH", "MUL", "RSQRT", "SOFTMAX"},
    "weight_int4": {"CONV_2D", "DEQUANTIZE"},
}
# Largest root of the mean square of the logits' errors, in deviations of the logits.
ERRORS = {
    "none": 1e-4,
    "float16": 0.02,
    "weight_int8": 0.15,
    "dynamic": 0.25,
    "int16x8": 0.3,
    "int8": 0.4,
    "weight_int4": 1.5,
}


@functools.cache
def of_family(family):
    name, arguments = CASES[family]
    data = networks.images(name, side=32, fitted=200, tested=40)
    return networks.network(name, data, **arguments), name, data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", CASES)
def test_each_family_as_each_kind(family, kind):
    model, name, data = of_family(family)
    row = measure.measure(model, name, kind, data)
    print(row)
    assert not row.error
    assert not row.flex
    left = {each.split()[1] for each in row.outside_xnnpack.split(", ") if each}
    # XNNPACK has nothing with int16 activations.
    assert left <= LEFT.get(kind, set()) or kind == "int16x8"
    assert row.outside_gpu == "" or kind == "int16x8"
    assert row.rms_error < ERRORS[kind]
    assert row.keras_top1 > 0.4, "a network that sees nothing would be no test"
    assert row.open_batch in {"yes", ""}
