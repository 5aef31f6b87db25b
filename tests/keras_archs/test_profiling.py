"""Costs against the papers' tables and figures measured elsewhere."""

from xml.etree import ElementTree

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.graph import symbolic


def test_every_kind_of_layer_by_hand():
    inputs = keras.Input((8, 10, 4))
    x = keras.layers.Conv2D(6, (3, 5), strides=2, padding="same", groups=2, name="grouped")(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    x = keras.layers.SeparableConv2D(7, 3, padding="same", name="separable")(x)
    x = keras.layers.Conv2DTranspose(2, 3, strides=2, padding="same", name="transposed")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float64", name="dense")(x))
    rows = {row.name: row for row in keras_archs.profile(model).layers}
    positions = 4 * 5
    assert rows["grouped"].multiply_adds == positions * 3 * 5 * (4 // 2) * 6
    assert rows["depthwise"].multiply_adds == positions * 9 * 6 * 2
    assert rows["separable"].multiply_adds == positions * (9 * 12 + 12 * 7)
    assert rows["transposed"].multiply_adds == positions * 9 * 7 * 2
    assert rows["flatten"].multiply_adds == 0
    assert rows["dense"].multiply_adds == 8 * 10 * 2 * 3
    assert rows["grouped"].activation_bytes == positions * 6 * 4
    assert rows["dense"].activation_bytes == 3 * 8
    assert rows["depthwise"].parameters == 9 * 6 * 2 + 12


def test_a_fixed_batch_counts_as_one_image():
    def cost(batch):
        inner_inputs = keras.Input((8, 8, 4), batch_size=batch)
        x = keras.layers.SeparableConv2D(4, 3, padding="same")(inner_inputs)
        inner = keras.Model(inner_inputs, x, name="inner")
        inputs = keras.Input((16, 16, 3), batch_size=batch)
        x = inner(keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs))
        x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
        x = keras_archs.MultiHeadSelfAttention2D(2)(x)
        tokens = keras.layers.Reshape((-1, 4))(x)
        x = keras.ops.matmul(tokens, keras.ops.transpose(tokens, (0, 2, 1)))
        x = keras.ops.einsum("bij,bjk->bik", x, tokens)
        model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
        return keras_archs.profile(model)

    fixed, free = cost(8), cost(None)
    assert [row.multiply_adds for row in fixed.layers] == [row.multiply_adds for row in free.layers]
    assert fixed.activation_bytes == free.activation_bytes
    assert all(
        row.multiply_adds for row in fixed.layers if row.type in {"Matmul", "Einsum", "Dense"}
    )


def test_nested_and_shared_layers_count_their_weights_once_and_their_work_each_time():
    shared = keras.layers.Conv2D(3, 3, padding="same", use_bias=False, name="shared")
    inner_inputs = keras.Input((8, 8, 3))
    inner = keras.Model(inner_inputs, shared(inner_inputs), name="inner")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inner(shared(inputs))))
    cost = keras_archs.profile(model)
    assert [row.name for row in cost.layers] == ["shared", "inner/shared", "relu"]
    assert cost.parameters == model.count_params() == 81
    assert cost.multiply_adds == 2 * 64 * 81


def test_dynamic_size_needs_an_input_shape_and_leaves_the_model_alone():
    model = keras_archs.MobileNet(alpha=0.25, include_top=False)
    with pytest.raises(ValueError, match="input_shape"):
        keras_archs.profile(model)
    layers = [layer.name for layer in model.layers]
    cost = keras_archs.profile(model, input_shape=(224, 224, 3))
    assert cost.multiply_adds == 41_030_272 - 256 * 1000  # keras.applications', less the top
    assert [layer.name for layer in model.layers] == layers
    assert model.input_shape == (None, None, None, 3)
    assert len(model.layers[1]._inbound_nodes) == 1


def test_half_precision_halves_activations():
    def activations():
        return keras_archs.profile(keras_archs.MobileNet(alpha=0.25, include_top=False, rho=1))

    full = activations().activation_bytes
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert activations().activation_bytes * 2 == full


def test_printed_table_ends_in_the_summary():
    cost = keras_archs.profile(keras_archs.MobileNet())
    assert str(cost).splitlines()[-1] == cost.summary
    assert "568.7 M multiply-adds" in cost.summary
    assert "4.25 M parameters" in cost.summary


def test_repr_is_one_line_and_a_notebook_shows_the_table():
    inputs = keras.Input((8, 8, 3))
    name = "a<b>&" + 40 * "c"
    inner = keras.Model(inputs, keras.layers.Conv2D(5, 3, name=name)(inputs), name="inner")
    cost = keras_archs.profile(keras.Model(inputs, inner(inputs), name="outer"))
    assert repr(cost) == f"<Profile of {cost.summary}, 1 layer>"
    _, _, row = ElementTree.fromstring(cost._repr_html_())
    assert [cell.text for cell in row] == [f"inner/{name}", "(6, 6, 5)", "140", "4,860", "720"]
    assert cost.summary in cost._repr_html_()
    head, row, _ = str(cost).splitlines()
    assert row.split() == [f"inner/{name}", "(6,", "6,", "5)", "140", "4,860", "720"]
    assert len(row) == len(head)


def test_a_model_inside_of_any_size_is_counted_at_the_size_of_its_use():
    inner = keras_archs.MobileNet(alpha=0.25, include_top=False)
    inputs = keras.Input((96, 64, 3))
    cost = keras_archs.profile(keras.Model(inputs, inner(inputs)))
    alone = keras_archs.profile(inner, (96, 64, 3))
    assert cost.multiply_adds == alone.multiply_adds > 1e6
    assert cost.activation_bytes == alone.activation_bytes


def test_models_that_are_not_functional_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="functional"):
        keras_archs.profile(Subclassed(), input_shape=(8, 8, 3))


# Closed form: theta and the projection at every position, phi and g at the pooled ones, two
# products of matrices.
@pytest.mark.parametrize(
    ("channels", "side", "sub_sample", "millions"),
    [
        (256, 56, True, 886.3),
        (256, 56, False, 2928.7),
        (512, 28, True, 335.6),
        (1024, 14, True, 266.7),
        (1024, 14, False, 450.4),
    ],
)
def test_layers_made_of_layers_are_opened(channels, side, sub_sample, millions):
    inputs = keras.Input((side, side, channels))
    with symbolic():
        block = keras_archs.NonLocalBlock(sub_sample=sub_sample)
        cost = keras_archs.profile(keras.Model(inputs, block(inputs)))
    assert cost.multiply_adds / 1e6 == pytest.approx(millions, abs=0.06)
    assert len(cost.layers) == 1


def test_attention_by_hand():
    inputs = keras.Input((4, 6, 8))
    outputs = keras_archs.MultiHeadSelfAttention2D(2, position="relative")(inputs)
    cost = keras_archs.profile(keras.Model(inputs, outputs))
    projections = 24 * 8 * 24
    pairs = 2 * 24 * 24 * 8
    positions = 24 * (4 + 6) * 8
    assert cost.multiply_adds == projections + pairs + positions


def test_layer_that_cannot_be_opened_is_named():
    class Opaque(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="opaque")
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs.numpy() if hasattr(inputs, "numpy") else 1 / 0)

        def compute_output_spec(self, inputs):
            return keras.KerasTensor((*inputs.shape[:-1], 3), inputs.dtype)

    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, Opaque()(inputs))
    with pytest.raises(ValueError, match="opaque cannot be read symbolically"):
        keras_archs.profile(model)


def test_symbolic_models_fill_no_weights_and_others_do():
    filled = []

    def initializer(shape, dtype=None):
        filled.append(shape)
        return keras.ops.zeros(shape, dtype)

    def build():
        inputs = keras.Input((3,))
        layer = keras.layers.Dense(2, kernel_initializer=initializer, name="dense")
        return keras.Model(inputs, layer(inputs))

    with symbolic():
        model = build()
        assert keras_archs.profile(model).parameters == 8
    assert filled == []
    model = build()
    assert filled == [(3, 2)]
    assert model(np.ones((1, 3))).shape == (1, 2)
