"""The blocks against the papers' equations, written out in numpy, and what all of them promise."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_archs import layers
from keras_archs.graph import symbolic

PAIRINGS = ["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
# One of each kind. The sizes fit maps of 32 channels.
BLOCKS = {
    "se": layers.SqueezeExcite,
    "eca": layers.ECA,
    "cbam": layers.CBAM,
    "gc": layers.GlobalContext,
    "gc_mul": lambda: layers.GlobalContext(fusion="mul"),
    **{pairing: (lambda p=pairing: layers.NonLocalBlock(p)) for pairing in PAIRINGS},
    "heads": lambda: layers.MultiHeadSelfAttention2D(position=None),
    "absolute": lambda: layers.MultiHeadSelfAttention2D(position="absolute"),
    "relative": layers.MultiHeadSelfAttention2D,
    "bias": lambda: layers.MultiHeadSelfAttention2D(position="bias", output_dim=32),
    "augmented": lambda: layers.AttentionAugmentedConv2D(80),
    "augmented_pooled": lambda: layers.AttentionAugmentedConv2D(80, pool=True),
    "depth": lambda: layers.StochasticDepth(0.3),
}
FIXED_SIZE = {"absolute", "relative", "bias", "augmented", "augmented_pooled"}
IDENTITY = ["gc", *PAIRINGS, "depth"]
RNG = np.random.default_rng(0)


def maps(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def randomized(layer, x):
    """The layer built for `x`, with weights none of which is zero or one, and those by name."""
    layer(x)
    generator = np.random.default_rng(2)
    for weight in layer.weights:
        if weight.dtype != "uint32":
            low = 0.5 if "variance" in weight.path else -1.0
            weight.assign(generator.uniform(low, 1.5, weight.shape))
    # "cbam/reduce/kernel" is "reduce/kernel" here.
    return layer, {
        "/".join(w.path.split("/")[-2:]): w.numpy().astype("float64") for w in layer.weights
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0)


@pytest.mark.jax
def test_squeeze_excite():
    x = maps(2, 5, 4, 32)
    layer, w = randomized(layers.SqueezeExcite(squeeze_ratio=1 / 8), x)
    assert w["reduce/kernel"].shape == (32, 4)
    gate = sigmoid(dense(w, "expand", np.maximum(dense(w, "reduce", x.mean((1, 2))), 0)))
    np.testing.assert_allclose(layer(x), x * gate[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.jax
def test_eca():
    x = maps(2, 5, 4, 32)
    layer, w = randomized(layers.ECA(kernel_size=3), x)
    padded = np.pad(x.mean((1, 2)), ((0, 0), (1, 1)))
    kernel = w["conv/kernel"].ravel()
    gate = sigmoid(np.stack([padded[:, i : i + 3] @ kernel for i in range(32)], axis=1))
    np.testing.assert_allclose(layer(x), x * gate[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "kernel"), [(64, 3), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_eca_kernel_of_the_formula(channels, kernel):
    layer = layers.ECA()
    layer.build((None, 7, 7, channels))
    assert layer.count_params() == kernel


@pytest.mark.jax
def test_cbam():
    x = maps(2, 5, 9, 32)
    layer, w = randomized(layers.CBAM(), x)
    mlp = lambda v: dense(w, "expand", np.maximum(dense(w, "reduce", v), 0))  # noqa: E731
    y = x * sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))[:, None, None]
    padded = np.pad(np.stack([y.max(-1), y.mean(-1)], axis=-1), ((0, 0), (3, 3), (3, 3), (0, 0)))
    gate = np.array(
        [
            [
                [np.sum(m[i : i + 7, j : j + 7] * w["spatial/kernel"][..., 0]) for j in range(9)]
                for i in range(5)
            ]
            for m in padded
        ]
    )
    scale = w["norm/gamma"] / np.sqrt(w["norm/moving_variance"] + 1e-5)
    gate = sigmoid((gate - w["norm/moving_mean"]) * scale + w["norm/beta"])
    np.testing.assert_allclose(layer(x), y * gate[..., None], rtol=1e-4, atol=1e-4)


@pytest.mark.jax
@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_global_context(fusion):
    x = maps(2, 5, 4, 32)
    layer, w = randomized(layers.GlobalContext(1 / 4, fusion), x)
    flat = x.reshape(2, 20, 32)
    weights = softmax(dense(w, "context", flat)[..., 0])
    hidden = dense(w, "reduce", np.einsum("bn,bnc->bc", weights, flat))
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(
        hidden.var(-1, keepdims=True) + 1e-5
    )
    hidden = np.maximum(hidden * w["norm/gamma"] + w["norm/beta"], 0)
    change = dense(w, "expand", hidden)[:, None, None]
    expected = x + change if fusion == "add" else x * sigmoid(change)
    got, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores, weights.reshape(2, 5, 4), rtol=1e-4, atol=1e-6)


def max_pooled(x):
    """2x2 maxima; the last row and column of an odd map stand alone."""
    rows = [x[:, i : i + 2].max(1) for i in range(0, x.shape[1], 2)]
    x = np.stack(rows, axis=1)
    return np.stack([x[:, :, j : j + 2].max(2) for j in range(0, x.shape[2], 2)], axis=2)


@pytest.mark.jax
@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_non_local_pair_by_pair(pairing, sub_sample):
    x = maps(1, 5, 4, 6)
    block = layers.NonLocalBlock(pairing, sub_sample=sub_sample, use_scale=False)
    layer, w = randomized(block, x)
    keys = max_pooled(x) if sub_sample else x
    queries, keys = x[0].reshape(-1, 6).astype("float64"), keys[0].reshape(-1, 6)
    count = len(keys)
    f = np.empty((len(queries), count))
    for i, query in enumerate(queries):
        for j, key in enumerate(keys):
            if pairing == "gaussian":
                f[i, j] = np.exp(query @ key)
                continue
            theta, phi = dense(w, "theta", query), dense(w, "phi", key)
            if pairing == "embedded_gaussian":
                f[i, j] = np.exp(theta @ phi)
            elif pairing == "dot_product":
                f[i, j] = theta @ phi
            else:
                vector = np.concatenate([w["pair_theta/kernel"], w["pair_phi/kernel"]])[:, 0]
                f[i, j] = max(0, vector @ np.concatenate([theta, phi]))
    normal = f.sum(1, keepdims=True) if "gaussian" in pairing else count
    y = dense(w, "project", f / normal @ dense(w, "g", keys))
    y = (y - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 1e-5)
    expected = x + (y * w["norm/gamma"] + w["norm/beta"]).reshape(x.shape)
    got, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    shape = (1, 5, 4, 3, 2) if sub_sample else (1, 5, 4, 5, 4)
    np.testing.assert_allclose(scores, (f / normal).reshape(shape), rtol=1e-3, atol=1e-5)


# Weights of one block: architecture notes' closed form, and the table of GCNet (27.66 M for 1024).
@pytest.mark.parametrize(
    ("channels", "trainable"),
    [(256, 132_224), (512, 526_592), (1024, 2_101_760), (2048, 8_397_824)],
)
def test_non_local_parameters(channels, trainable):
    layer = layers.NonLocalBlock()
    with symbolic():
        layer.build((None, 7, 7, channels))
    assert sum(np.prod(v.shape) for v in layer.trainable_variables) == trainable


@pytest.mark.jax
@pytest.mark.parametrize("position", [None, "absolute", "relative", "bias"])
def test_self_attention_pair_by_pair(position):
    x = maps(1, 3, 4, 6)
    block = layers.MultiHeadSelfAttention2D(
        2, key_dim=5, value_dim=3, position=position, use_bias=True, output_dim=7
    )
    layer, w = randomized(block, x)
    table = {k.rsplit("/", 1)[-1]: v for k, v in w.items()}
    query, key, value = np.split(dense(w, "qkv", x[0].astype("float64")), [10, 20], axis=-1)
    points = [(row, column) for row in range(3) for column in range(4)]
    heads = []
    for head in range(2):
        k, v = slice(5 * head, 5 * head + 5), slice(3 * head, 3 * head + 3)
        scores = np.empty((12, 12))
        for i, (row, column) in enumerate(points):
            for j, (key_row, key_column) in enumerate(points):
                q = query[row, column, k] / np.sqrt(5)
                scores[i, j] = q @ key[key_row, key_column, k]
                down, right = key_row - row + 2, key_column - column + 3
                if position == "relative":
                    r = table["height_relative"][down] + table["width_relative"][right]
                    scores[i, j] += q @ r
                elif position == "absolute":
                    r = table["height_absolute"][key_row] + table["width_absolute"][key_column]
                    scores[i, j] += q @ r
                elif position == "bias":
                    scores[i, j] += table["relative_bias"][down, right, head]
        heads.append(softmax(scores) @ value.reshape(12, -1)[:, v])
    expected = dense(w, "project", np.concatenate(heads, axis=-1)).reshape(1, 3, 4, 7)
    got, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.sum(scores, axis=(-1, -2)), np.ones((1, 2, 3, 4)), rtol=1e-5)


def test_augmented_convolution_is_a_convolution_beside_attention():
    x = maps(2, 6, 5, 8)
    layer = layers.AttentionAugmentedConv2D(40, nu=0.25, num_heads=2)
    got = layer(x)
    # kappa * 40 / 2 = 4 channels a head are raised to the paper's 20.
    assert layer.attention.qkv.kernel.shape == (8, 2 * 2 * 20 + 10)
    assert got.shape == (2, 6, 5, 40)
    expected = keras.ops.conv(x, layer.conv.kernel, padding="same")
    np.testing.assert_allclose(got[..., :30], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[..., 30:], layer.attention(x), rtol=1e-5, atol=1e-6)


def padded_same(x, size, strides, value):
    """Padding of TensorFlow's "same": what is odd goes to the far side."""
    widths = [(0, 0), (0, 0), (0, 0), (0, 0)]
    for axis in (1, 2):
        total = max(size - (x.shape[axis] % strides or strides), 0)
        widths[axis] = (total // 2, total - total // 2)
    return np.pad(x, widths, constant_values=value)


def windows(x, size, strides, value=0.0):
    """All patches of "same" windows, `(batch, rows, columns, size, size, channels)`."""
    rows, columns = (-(-side // strides) for side in x.shape[1:3])
    x = padded_same(x, size, strides, value)
    return np.stack(
        [
            np.stack(
                [x[:, i : i + size, j : j + size] for j in range(0, columns * strides, strides)],
                axis=1,
            )
            for i in range(0, rows * strides, strides)
        ],
        axis=1,
    )


def enlarged(x, rows, columns):
    """Bilinear, with the centres of the pixels at halves, the edges repeated."""
    for axis, side in ((1, rows), (2, columns)):
        at = np.clip((np.arange(side) + 0.5) * x.shape[axis] / side - 0.5, 0, x.shape[axis] - 1)
        low = at.astype(int)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        high = np.minimum(low + 1, x.shape[axis] - 1)
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def attention_in_numpy(w, x, heads, dim, value_dim):
    """Equations 1 to 4 of Bello et al. with relative positions, position by position."""
    _, rows, columns, _ = x.shape
    query, key, value = np.split(x @ w["qkv/kernel"], [heads * dim, 2 * heads * dim], axis=-1)
    result = np.empty((*x.shape[:3], heads * value_dim))
    for image, i, j, head in np.ndindex(len(x), rows, columns, heads):
        k, v = slice(head * dim, (head + 1) * dim), slice(head * value_dim, (head + 1) * value_dim)
        q = query[image, i, j, k] / np.sqrt(dim)
        down = w["attention/height_relative"][rows - 1 - i : 2 * rows - 1 - i]
        right = w["attention/width_relative"][columns - 1 - j : 2 * columns - 1 - j]
        scores = key[image, ..., k] @ q + (down @ q)[:, None] + (right @ q)[None]
        weights = softmax(scores.ravel()).reshape(rows, columns, 1)
        result[image, i, j, v] = (weights * value[image, ..., v]).sum((0, 1))
    return result @ w["project/kernel"]


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
@pytest.mark.parametrize(("strides", "pool"), [(1, True), (2, False), (2, True)])
def test_augmented_convolution_with_strides_and_pooling(strides, pool, size):
    x = maps(2, *size, 8)
    block = layers.AttentionAugmentedConv2D(40, nu=0.25, num_heads=2, strides=strides, pool=pool)
    layer, w = randomized(block, x)
    x = x.astype("float64")
    convolved = np.einsum("brcijk,ijkf->brcf", windows(x, 3, strides), w["conv/kernel"])
    pooled = x
    for _ in range((strides == 2) + pool):
        # Means over the pixels that are there; the padding does not count.
        pooled = np.nanmean(windows(pooled, 3, 2, np.nan), axis=(3, 4))
    attended = attention_in_numpy(w, pooled, heads=2, dim=20, value_dim=5)
    if pool:
        attended = enlarged(attended, *convolved.shape[1:3])
    expected = np.concatenate([convolved, attended], axis=-1)
    np.testing.assert_allclose(layer(x.astype("float32")), expected, rtol=1e-4, atol=1e-4)


def test_stochastic_depth_drops_whole_images():
    x = np.ones((2000, 2, 2, 3), "float32")
    layer = layers.StochasticDepth(0.25, seed=0)
    kept = np.asarray(layer(x, training=True))
    per_image = kept.reshape(2000, -1)
    assert (per_image == per_image[:, :1]).all()
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75], rtol=1e-6)
    # Binomial(2000, 0.75): four standard deviations are 0.039.
    assert abs((per_image[:, 0] > 0).mean() - 0.75) < 0.039
    np.testing.assert_array_equal(layer(x, training=False), x)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", IDENTITY)
def test_new_block_is_the_identity_to_the_last_bit(kind, policy):
    keras.config.set_dtype_policy(policy)
    layer = BLOCKS[kind]()
    x = keras.ops.cast(maps(2, 7, 5, 32), layer.compute_dtype)
    np.testing.assert_array_equal(keras.ops.cast(layer(x), "float32"), keras.ops.cast(x, "float32"))


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), channels=st.integers(4, 40))
@pytest.mark.parametrize("kind", sorted(set(BLOCKS) - FIXED_SIZE))
def test_any_size_static_or_dynamic(kind, height, width, channels):
    keras.utils.clear_session()
    x = maps(2, height, width, 4 * (channels // 4))
    static = BLOCKS[kind]()
    expected = static(x)
    inputs = keras.Input((None, None, x.shape[-1]))
    dynamic = keras.Model(inputs, static(inputs))
    np.testing.assert_allclose(dynamic(x), expected, rtol=1e-5, atol=1e-6)
    fixed = keras.Input(x.shape[1:])
    assert static(fixed).shape == (None, *expected.shape[1:])


@pytest.mark.all_cases
@pytest.mark.parametrize("kind", BLOCKS)
def test_declared_shape_is_the_real_one(kind):
    layer = BLOCKS[kind]()
    x = maps(2, 7, 5, 32)
    real = layer(x)
    assert layer(keras.Input((7, 5, 32))).shape == (None, *real.shape[1:])


def scored():
    yield layers.GlobalContext()
    yield from map(layers.NonLocalBlock, PAIRINGS)
    yield layers.MultiHeadSelfAttention2D()


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_attention_scores_as_outputs_of_a_model(policy):
    keras.config.set_dtype_policy(policy)
    for layer in scored():
        inputs = keras.Input((6, 4, 32))
        model = keras.Model(inputs, layer(inputs, return_attention_scores=True))
        real = model(maps(2, 6, 4, 32))
        for declared, value in zip(model.outputs, real, strict=True):
            assert declared.shape[1:] == value.shape[1:]
            assert declared.dtype == keras.backend.standardize_dtype(value.dtype)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_half_precision_is_near_full(kind, policy):
    x = maps(2, 7, 5, 32)
    full = BLOCKS[kind]()
    full(x)
    for weight in full.weights:
        if weight.path.endswith(("gamma", "kernel")):
            weight.assign(np.random.default_rng(3).uniform(0.1, 0.3, weight.shape))
    keras.config.set_dtype_policy(policy)
    half = BLOCKS[kind]()
    half(x)
    half.set_weights(full.get_weights())
    expected = np.asarray(full(x))
    got = np.asarray(keras.ops.cast(half(x), "float32"))
    np.testing.assert_allclose(got, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_large_values_stay_finite_in_float16(pairing, training):
    """60,000 is near the largest float16, 65,504; products of two or three are far beyond."""
    keras.config.set_dtype_policy("mixed_float16")
    layer = layers.NonLocalBlock(pairing)
    x = np.sign(maps(2, 8, 8, 32)) * np.float32(60_000) * np.linspace(0.5, 1, 8)[:, None, None]
    got = np.asarray(layer(x.astype("float16"), training=training), "float32")
    np.testing.assert_array_equal(got, x.astype("float16"))  # the identity still, without a NaN
    layer.norm.gamma.assign(np.ones(32))
    assert np.isfinite(layer(x.astype("float16") / 2, training=True)).all()
    assert all(np.isfinite(weight.numpy()).all() for weight in layer.weights)


@pytest.mark.full
@pytest.mark.parametrize("kind", BLOCKS)
def test_no_nan_in_200_steps_of_mixed_float16(kind):
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((8, 8, 32))
    x = BLOCKS[kind]()(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4, dtype="float32")(x))
    # Products of such values exceed 65504, the largest float16.
    images = 60 * maps(16, 8, 8, 32)
    labels = np.arange(16) % 4
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-4, momentum=0.9))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    losses = [model.train_on_batch(images, labels) for _ in range(200)]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(weight.numpy()).all() for weight in model.trainable_weights)
    assert losses[-1] < losses[0]


def test_files_load_in_a_fresh_process(tmp_path):
    inputs = keras.Input((8, 8, 32))
    outputs = [build()(inputs) for build in BLOCKS.values()]
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "blocks.keras")
    np.save(tmp_path / "x.npy", maps(2, 8, 8, 32))
    np.savez(tmp_path / "y.npz", *model(maps(2, 8, 8, 32)))
    code = (
        "import keras, keras_archs, numpy as np;"
        "model = keras.saving.load_model('blocks.keras');"
        "expected = np.load('y.npz');"
        "got = model(np.load('x.npy'));"
        "assert len(got) == len(expected.files);"
        "[np.testing.assert_allclose(a, expected[f'arr_{i}'], atol=1e-6)"
        " for i, a in enumerate(got)]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.all_cases
@pytest.mark.parametrize("kind", BLOCKS)
def test_config_round_trip(kind):
    layer = BLOCKS[kind]()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("position", ["absolute", "relative", "bias"])
def test_weights_of_another_size_are_interpolated(position, tmp_path):
    def model(size):
        inputs = keras.Input((size, size, 8))
        layer = layers.MultiHeadSelfAttention2D(2, position=position, name="attention")
        return keras.Model(inputs, layer(inputs))

    small, large = model(4), model(7)
    for weight in small.get_layer("attention").trainable_weights:
        shape = weight.shape
        if position in weight.path:  # a ramp along the rows stays one, from end to end
            ramp = np.linspace(-1, 1, shape[0])
            weight.assign(np.broadcast_to(ramp.reshape(-1, *[1] * (len(shape) - 1)), shape))
    small.save_weights(tmp_path / "small.weights.h5")
    large.load_weights(tmp_path / "small.weights.h5")
    tables = [w for w in large.get_layer("attention").weights if position in w.path]
    assert tables
    for table in tables:
        ramp = np.linspace(-1, 1, table.shape[0])
        np.testing.assert_allclose(np.asarray(table).reshape(len(ramp), -1)[:, 0], ramp, atol=1e-6)
    kernels = [m.get_layer("attention").qkv.kernel for m in (small, large)]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: layers.SqueezeExcite(0), "squeeze_ratio"),
        (lambda: layers.SqueezeExcite(squeezed_channels=0), "squeezed_channels"),
        (lambda: layers.ECA(4), "kernel_size.*odd.*4"),
        (lambda: layers.CBAM(kernel_size=0), "kernel_size"),
        (lambda: layers.GlobalContext(fusion="sum"), "fusion.*'add'.*'sum'"),
        (lambda: layers.NonLocalBlock("gauss"), "pairing.*dot_product.*'gauss'"),
        (lambda: layers.NonLocalBlock(inner_channels=0), "inner_channels"),
        (lambda: layers.MultiHeadSelfAttention2D(0), "num_heads"),
        (lambda: layers.MultiHeadSelfAttention2D(position="rel"), "position.*relative.*'rel'"),
        (lambda: layers.MultiHeadSelfAttention2D(5)(maps(1, 4, 4, 32)), "num_heads=5.*32"),
        (lambda: layers.MultiHeadSelfAttention2D()(keras.Input((None, 4, 32))), "must be known"),
        (lambda: layers.AttentionAugmentedConv2D(32, nu=0.1), "nu=0.1.*filters=32"),
        (lambda: layers.AttentionAugmentedConv2D(32, kappa=1.5), "kappa"),
        (lambda: layers.StochasticDepth(1.5), "rate"),
        (lambda: layers.SqueezeExcite()(maps(2, 8)), "batch, height, width, channels"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_another_size_than_at_the_start_is_refused():
    layer = layers.MultiHeadSelfAttention2D()
    layer(maps(1, 4, 4, 32))
    with pytest.raises(ValueError, match=r"built for maps of \(4, 4\), got \(5, 4\)"):
        layer(maps(1, 5, 4, 32))
