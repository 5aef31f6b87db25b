"""The layers that compute what Keras' do by other kernels: the same outputs, gradients and state.

Keras' own layers, in float32, are the reference.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_archs import layers
from keras_archs.layers.drop_in import batch_norm
from tests.versions import KERAS

POLICIES = ["float32", "mixed_float16", "mixed_bfloat16"]
# Of values and gradients, relative to the largest; half precision rounds at 2**-11 and 2**-8, and a
# gradient here is the sum of a few dozen of such values.
TOLERANCE = {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}


def maps(*shape, seed=1):
    # Values that all types represent, so that the policies start from the same input.
    return np.random.default_rng(seed).integers(-24, 25, shape).astype("float32") / 8


def run(layer, x, training=True):
    """Outputs and the gradients of the input and the weights, in a graph as when training."""
    x = tf.constant(x)
    weights = [weight.value for weight in layer.trainable_variables]
    # Fixed factors: a sum alone has no gradient behind a batch norm.
    factors = np.random.default_rng(3).integers(-8, 9, layer.compute_output_shape(x.shape)) / 8

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=training), tf.float32)
            total = tf.reduce_sum(y * tf.constant(factors, tf.float32))
        return [y, *tape.gradient(total, [x, *weights])]

    return [np.asarray(each) for each in step()]


class WithoutTraining(keras.layers.Wrapper):
    """Keras' depthwise convolution and activation do not take `training`."""

    def call(self, inputs, training=None):  # noqa: ARG002
        return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def assert_same(ours, theirs, policy):
    for ours_each, theirs_each in zip(ours, theirs, strict=True):
        scale = np.abs(theirs_each).max()
        np.testing.assert_allclose(ours_each, theirs_each, rtol=0, atol=TOLERANCE[policy] * scale)


def pair(ours, theirs, shape):
    """Both layers built for `shape`, with the same weights, none of them zero or one."""
    ours.build(shape)
    theirs.build(shape)
    generator = np.random.default_rng(2)
    values = [generator.integers(4, 13, weight.shape) / 8 for weight in theirs.weights]
    theirs.set_weights(values)
    ours.set_weights(values)
    return ours, theirs


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"epsilon": 1e-5}])
# 16 and 24 channels: in bfloat16 the second goes through float32.
@pytest.mark.parametrize("channels", [16, 24])
def test_batch_norm_is_keras(policy, training, arguments, channels):
    x = maps(4, 5, 6, channels)
    ours, theirs = pair(
        layers.BatchNormalization(dtype=policy, **arguments),
        keras.layers.BatchNormalization(dtype="float32", **arguments),
        x.shape,
    )
    assert_same(run(ours, x, training), run(theirs, x, training), policy)
    # Statistics are float32 under every policy.
    assert_same(ours.get_weights(), theirs.get_weights(), "float32")
    assert ours(x).dtype == ours.compute_dtype


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 5),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 20),
    momentum=st.floats(0.0, 1.0),
)
def test_batch_norm_moves_as_keras_at_any_shape(batch, height, width, channels, momentum):
    x = maps(batch, height, width, channels)
    ours, theirs = pair(
        layers.BatchNormalization(momentum=momentum),
        keras.layers.BatchNormalization(momentum=momentum),
        x.shape,
    )
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 6), {}),
        ((4, 3, 6), {}),
        ((2, 3, 4, 5), {"axis": 1}),
        ((2, 3, 4, 5), {"dtype": "float64"}),
        pytest.param(
            (2, 3, 4, 5),
            {"renorm": True},
            marks=pytest.mark.skipif(
                not hasattr(keras.layers.BatchNormalization(), "renorm"), reason="needs Keras 3.14"
            ),
        ),
        ((2, 3, 4, 5), {"synchronized": True}),
    ],
)
def test_batch_norm_elsewhere_is_keras_itself(shape, arguments):
    x = maps(*shape)
    ours, theirs = pair(
        layers.BatchNormalization(**arguments),
        keras.layers.BatchNormalization(**arguments),
        x.shape,
    )
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-6)
    assert_same(ours.get_weights(), theirs.get_weights(), "float32")


def test_frozen_batch_norm_uses_and_keeps_its_statistics():
    x = maps(4, 5, 6, 8)
    layer = layers.BatchNormalization()
    layer(x)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False), atol=1e-6)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_batch_norm_on_a_gpu_has_a_gradient_that_can_be_deterministic(
    trainable, monkeypatch
):
    """FusedBatchNormGradV3 with given statistics is refused there under op determinism."""
    monkeypatch.setattr(batch_norm, "on_cpu", lambda: False)
    layer = layers.BatchNormalization(trainable=trainable)
    x = tf.constant(maps(4, 5, 6, 8))
    layer(x)
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(x).graph
    kernels = [op for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
    assert len(kernels) == trainable


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (layers.BatchNormalization(), keras.layers.BatchNormalization()),
        (layers.Activation("swish"), keras.layers.Activation("swish")),
        (layers.DepthwiseConv2D(5), keras.layers.DepthwiseConv2D(5)),
    ],
)
def test_config_is_keras(ours, theirs):
    ignored = {"name": None, "dtype": None}
    assert {**ours.get_config(), **ignored} == {**theirs.get_config(), **ignored}


ACTIVATIONS = ["swish", "hard_swish", "gelu", "relu6", "relu"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_keras(name, policy):
    x = maps(3, 5, 7, 8)
    ours = layers.Activation(name, dtype=policy)
    theirs = WithoutTraining(keras.layers.Activation(name, dtype="float32"))
    assert_same(run(ours, x), run(theirs, x), policy)
    np.testing.assert_array_equal(ours(x), keras.layers.Activation(name, dtype=policy)(x))


def test_activation_of_unknown_batch_and_size():
    layer = layers.Activation("hard_swish")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, x)

    for shape in ((2, 3, 4, 3), (1, 5, 2, 3)):
        x = maps(*shape)
        y, gradient = step(x)
        # The definition, x relu6(x + 3) / 6, and its derivative.
        np.testing.assert_allclose(y, x * np.clip(x + 3, 0, 6) / 6, atol=1e-6)
        inside = (x > -3) & (x < 3)
        np.testing.assert_allclose(gradient, np.where(inside, (2 * x + 3) / 6, x >= 3), atol=1e-6)


def test_activation_shows_what_is_not_a_number():
    for name in ACTIVATIONS:
        for policy in POLICIES:
            y = layers.Activation(name, dtype=policy)(np.float32([[np.nan]]), training=True)
            assert np.isnan(tf.cast(y, tf.float32)), (name, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "strides"), [(3, 1), (3, 2), (5, 1), (5, 2), ((5, 7), 1)])
def test_depthwise_is_keras(kernel, strides, padding, policy):
    x = maps(3, 14, 9, 8)
    arguments = {"strides": strides, "padding": padding, "use_bias": False}
    ours, theirs = pair(
        layers.DepthwiseConv2D(kernel, dtype=policy, **arguments),
        keras.layers.DepthwiseConv2D(kernel, dtype="float32", **arguments),
        x.shape,
    )
    assert_same(run(ours, x), run(WithoutTraining(theirs), x), policy)


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(5, 12),
    width=st.integers(5, 12),
    channels=st.integers(1, 9),
    padding=st.sampled_from(["same", "valid"]),
)
def test_depthwise_filter_gradient_is_the_sum_it_says(batch, height, width, channels, padding):
    x = maps(batch, height, width, channels)
    layer = layers.DepthwiseConv2D(5, padding=padding, use_bias=False)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        dy = maps(*y.shape, seed=5)
        total = tf.reduce_sum(y * dy)
    gradient = tape.gradient(total, layer.kernel.value)
    side = 2 if padding == "same" else 0
    padded = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    rows, columns = y.shape[1:3]
    expected = [
        [(padded[:, i : i + rows, j : j + columns] * dy).sum((0, 1, 2)) for j in range(5)]
        for i in range(5)
    ]
    np.testing.assert_allclose(gradient[..., 0], expected, rtol=1e-4, atol=1e-3)


def test_depthwise_keeps_bias_activation_and_multiplier():
    x = maps(2, 9, 9, 4)
    for arguments in ({"activation": "relu"}, {"depth_multiplier": 2}, {"dilation_rate": 2}):
        ours, theirs = pair(
            layers.DepthwiseConv2D(5, padding="same", **arguments),
            keras.layers.DepthwiseConv2D(5, padding="same", **arguments),
            x.shape,
        )
        assert_same(run(ours, x), run(WithoutTraining(theirs), x), "float32")


@pytest.mark.full
def test_a_network_of_them_trains_as_one_of_keras_layers():
    """Loss and weights over steps of momentum; rounding alone tells the two apart."""

    def network(kind):
        return keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                keras.layers.Conv2D(16, 3, use_bias=False),
                kind.BatchNormalization(),
                kind.Activation("swish"),
                kind.DepthwiseConv2D(5, padding="same", use_bias=False),
                kind.BatchNormalization(),
                kind.Activation("hard_swish"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )

    ours, theirs = network(layers), network(keras.layers)
    ours.set_weights(theirs.get_weights())
    x, y = maps(32, 16, 16, 3), np.arange(32) % 3
    for model in (ours, theirs):
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
    for _ in range(5):
        np.testing.assert_allclose(ours.train_on_batch(x, y), theirs.train_on_batch(x, y), 1e-4)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)


def test_saved_in_half_precision_and_loaded(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.Input((12, 12, 4)),
            layers.DepthwiseConv2D(5, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu6"),
        ]
    )
    model(maps(8, 12, 12, 4), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    x = maps(2, 12, 12, 4)
    np.testing.assert_array_equal(tf.cast(loaded(x), tf.float32), tf.cast(model(x), tf.float32))


REPLICAS = """
import numpy as np, tensorflow as tf, keras
from keras_archs import layers
from keras_archs.layers.drop_in import batch_norm

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = np.random.default_rng(0).normal(2, 3, (8, 12, 12, 4)).astype("float32")
y = np.arange(8) % 3


def build():
    return keras.Sequential([
        keras.Input((12, 12, 4)),
        layers.DepthwiseConv2D(5, padding="same", use_bias=False, depthwise_initializer="ones"),
        layers.BatchNormalization(synchronized=SYNCHRONIZED, name="norm"),
        layers.Activation("hard_swish"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", kernel_initializer="ones"),
    ])


def train(model):
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    losses = [model.fit(dataset, verbose=0).history["loss"][0] for _ in range(3)]
    return losses, [np.asarray(weight) for weight in model.get_weights()]


alone = train(build())
with strategy.scope():
    mirrored = build()
both = train(mirrored)
assert np.isfinite(both[0]).all(), both[0]
if SYNCHRONIZED:
    # Statistics of the whole batch: two replicas are one process.
    np.testing.assert_allclose(alone[0], both[0], rtol=1e-4)
    for one, two in zip(alone[1], both[1]):
        np.testing.assert_allclose(one, two, atol=1e-4)
else:
    # Each replica has its own statistics, so the averaged variance lacks that between them.
    assert not np.allclose(alone[1][4], both[1][4], rtol=1e-4)
"""


@pytest.mark.full
@pytest.mark.parametrize("synchronized", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_under_a_strategy(synchronized):
    code = REPLICAS.replace("SYNCHRONIZED", str(synchronized))
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"axis": 1}])
def test_layer_norm_is_keras(policy, arguments):
    x = maps(4, 5, 6, 8)
    ours, theirs = pair(
        layers.LayerNormalization(dtype=policy, **arguments),
        keras.layers.LayerNormalization(**arguments),
        x.shape,
    )
    assert_same(run(WithoutTraining(ours), x), run(WithoutTraining(theirs), x), policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(4, 8), (4, 5, 8), (4, 5, 6, 8)])
def test_dense_is_keras(policy, shape):
    x = maps(*shape)
    arguments = {"units": 7, "activation": "tanh"}
    ours, theirs = pair(
        layers.Dense(dtype=policy, **arguments), keras.layers.Dense(**arguments), shape
    )
    assert_same(run(ours, x), run(theirs, x), policy)


def test_dense_asks_for_no_shape_of_an_open_batch():
    """Keras' own gathers the shape and multiplies it up, which is what this layer is for."""

    def operations(layer):
        layer.build((None, 5, 6, 8))
        function = tf.function(layer, input_signature=[tf.TensorSpec((None, 5, 6, 8), tf.float32)])
        graph = function.get_concrete_function().graph
        return {operation.type for operation in graph.get_operations()}

    if KERAS >= (3, 15):
        assert "Prod" in operations(keras.layers.Dense(7))
    assert not {"Prod", "GatherV2", "Pack"} & operations(layers.Dense(7))
