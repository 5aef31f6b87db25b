"""Compound scaling: the released networks, the paper's rule, and what lies between."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_archs
from keras_archs import compound_scaling
from keras_archs.graph import symbolic

# Width, depth, resolution and dropout as the authors released them, and parameters in millions
# and multiply-adds in billions of the paper's table 2.
RELEASED = {
    0: ("b0", (1.0, 1.0, 224, 0.2), 5.3, 0.39),
    0.5: ("b1", (1.0, 1.1, 240, 0.2), 7.8, 0.70),
    1: ("b2", (1.1, 1.2, 260, 0.3), 9.2, 1.0),
    2: ("b3", (1.2, 1.4, 300, 0.3), 12, 1.8),
    3.5: ("b4", (1.4, 1.8, 380, 0.4), 19, 4.2),
    5: ("b5", (1.6, 2.2, 456, 0.4), 30, 9.9),
    6: ("b6", (1.8, 2.6, 528, 0.5), 43, 19),
    7: ("b7", (2.0, 3.1, 600, 0.5), 66, 37),
}


@pytest.mark.parametrize("phi", RELEASED)
def test_released_networks(phi):
    name, coefficients, parameters, multiply_adds = RELEASED[phi]
    scaling = compound_scaling(phi)
    assert dataclasses.astuple(scaling) == coefficients
    with symbolic():
        scaled = keras_archs.profile(keras_archs.EfficientNet(**dataclasses.asdict(scaling)))
        released = keras_archs.profile(keras_archs.create_model(f"efficientnet{name}"))
    assert scaled.multiply_adds == released.multiply_adds
    assert scaled.parameters == released.parameters
    assert released.parameters / 1e6 == pytest.approx(parameters, rel=0.03)
    assert released.multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.05)


def test_powers_of_the_paper():
    scaling = compound_scaling(3, released=False)
    assert scaling.depth_coefficient == pytest.approx(1.728)
    assert scaling.width_coefficient == pytest.approx(1.331)
    assert scaling.resolution == round(224 * 1.520875)


@given(phi=st.floats(0, 7))
def test_between_two_networks(phi):
    scaling = compound_scaling(phi)
    assert scaling.resolution % 4 == 0
    below, above = compound_scaling(max(phi - 0.5, 0)), compound_scaling(min(phi + 0.5, 7))
    for field in ("width_coefficient", "depth_coefficient", "resolution", "dropout_rate"):
        assert getattr(below, field) <= getattr(scaling, field) <= getattr(above, field)


@pytest.mark.parametrize("arguments", [{"phi": -1}, {"phi": 7.5}, {"phi": 1, "alpha": 1.3}])
def test_outside_the_released_table(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        compound_scaling(**arguments)
    assert compound_scaling(**arguments, released=False).resolution > 0


@pytest.mark.parametrize("phi", ["b0", None, float("nan")])
def test_phi_is_a_number(phi):
    with pytest.raises(ValueError, match="phi must be a number"):
        compound_scaling(phi)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("efficientnetv2xl", {}),
        ("efficientnet", {"depth_coefficient": 7, "width_coefficient": 0.1}),
    ],
)
def test_more_blocks_in_a_stage_than_there_are_letters(name, arguments):
    """TensorFlow takes no `{`, the character behind z, in what it makes of a layer's name."""
    with symbolic():
        model = keras_archs.create_model(name, **arguments)
    names = [layer.name for layer in model.layers]
    assert [each for each in names if not re.fullmatch("[a-z][a-z0-9_]*", each)] == []
    assert "block6z_se_reduce" in names
    assert "block6aa_se_reduce" in names
