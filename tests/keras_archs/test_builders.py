"""What every builder promises: sizes, channels, heads, precision, saving, and clear errors."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_archs
from keras_archs.graph import symbolic
from tests.keras_archs.helpers import images, randomize

# A small network of each family, with its arguments.
SMALL = {
    "mobilenet": {"alpha": 0.25},
    "mobilenetv2": {"alpha": 0.35},
    "mobilenetv3small": {"alpha": 0.75},
    "mobilenetv4convsmall": {},
    "mobilenetv4hybridmedium": {},
    "efficientnetb0": {},
    "efficientnetlite0": {},
    "efficientnetv2b0": {},
    "resnet18": {},
    "resnet18v2": {},
    "resnet18d": {},
    "wideresnet16x4": {},
    "resnetrs50": {},
    "resnext50": {},
    "seresnet18": {},
    "nonlocalresnet50": {"blocks": 1},
    "gcresnet50": {},
    "cbamresnet50": {},
    "ecaresnet50": {},
    "botnet50": {},
    "aaresnet50": {},
    "coatnet0": {},
    "resnet50": {},
    "vgg11": {},
    "vgg11_bn": {"batch_norm": True},
    "inceptionv1": {},
    "inceptionv2": {},
    "inceptionv3": {},
    "inceptionv4": {},
    "inceptionresnetv2": {},
    "xception": {},
}
# A file of networks that the table lacks is tested by its first network.
_FILES = {keras_archs.registry.find(case.removesuffix("_bn")).builder.__module__ for case in SMALL}
for _entry in keras_archs.registry._MODELS.values():
    if _entry.builder.__module__ not in _FILES:
        SMALL[_entry.name] = {}
        _FILES.add(_entry.builder.__module__)
INCEPTIONS = ("inceptionv2", "inceptionv3", "inceptionv4", "inceptionresnetv2")
# One for each kind of network, of which the tests that compute have all precisions.
KINDS = ("vgg11", "inceptionv1", "resnet18", "mobilenet", "efficientnetb0", "coatnet0")
EACH = [pytest.param(case, marks=[] if case in KINDS else [pytest.mark.slow]) for case in SMALL]
# Weights depend on the height and width.
STATIC = ("botnet50", "aaresnet50", "coatnet0")


def build(case, **arguments):
    return keras_archs.create_model(case.removesuffix("_bn"), **SMALL[case], **arguments)


def min_size_of(case):
    return keras_archs.registry.find(case.removesuffix("_bn")).family.min_size


def size_of(case):
    """Pixels that the family takes at least, from 64 on."""
    return max(64, min_size_of(case))


@pytest.mark.parametrize(("channels", "pooling"), [(1, None), (3, "max"), (4, "avg")])
@pytest.mark.parametrize("case", SMALL)
def test_channels_and_pooling(case, channels, pooling):
    shape = (min_size_of(case), min_size_of(case) + 17, channels)
    with symbolic():
        model = build(case, input_shape=shape, include_top=False, pooling=pooling)
    assert model.input_shape == (None, *shape)
    assert len(model.output_shape) == (2 if pooling else 4)
    features = keras_archs.feature_info(model)[-1].channels
    assert model.output_shape[-1] == features


@pytest.mark.parametrize("case", [case for case in SMALL if case not in STATIC])
def test_static_and_dynamic_size_give_the_same_map(case):
    with symbolic():
        dynamic = build(case, include_top=False)
        assert dynamic.input_shape == (None, None, None, 3)
        for size in (225, 300):
            static = build(case, input_shape=(size, size, 3), include_top=False)
            x = keras.KerasTensor((2, size, size, 3))
            assert dynamic.compute_output_spec(x).shape == (2, *static.output_shape[1:])


@pytest.mark.full
@settings(max_examples=8, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90))
@pytest.mark.parametrize("case", ["mobilenet", "mobilenetv3small", "efficientnetb0", "resnet18"])
def test_any_size_gives_the_same_map(case, height, width):
    with symbolic():
        static = build(case, input_shape=(height, width, 3), include_top=False)
        dynamic = build(case, include_top=False)
        x = keras.KerasTensor((2, height, width, 3))
        assert dynamic.compute_output_spec(x).shape == (2, *static.output_shape[1:])


@pytest.mark.parametrize("case", STATIC)
def test_weights_by_position_need_a_size(case):
    with pytest.raises(ValueError, match="fixed height and width"):
        build(case, input_shape=(None, None, 3))
    with symbolic():
        assert build(case, include_top=False).input_shape == (None, 224, 224, 3)


@pytest.mark.full
@settings(max_examples=25, deadline=None)
@given(
    alpha=st.floats(1 / 32, 1.5),
    depth_multiplier=st.integers(1, 3),
    size=st.sampled_from([None, 32, 65, 128]),
    classes=st.integers(1, 50),
)
def test_mobilenet_takes_any_width_and_size(alpha, depth_multiplier, size, classes):
    with symbolic():
        model = keras_archs.MobileNet(
            input_shape=(size, size, 3),
            alpha=alpha,
            depth_multiplier=depth_multiplier,
            classes=classes,
        )
    assert model.output_shape == (None, classes)
    assert model.get_layer("conv_pw_13").filters == int(1024 * alpha)
    depthwise = model.get_layer("conv_dw_13").kernel.shape
    assert tuple(depthwise) == (3, 3, int(1024 * alpha), depth_multiplier)


@pytest.mark.parametrize(
    ("rho", "size"),
    [(1, 224), (6 / 7, 192), (0.857, 192), (5 / 7, 160), (4 / 7, 128), (0.571, 128)],
)
def test_rho_sets_the_size_of_the_paper(rho, size):
    assert keras_archs.MobileNet(alpha=0.25, rho=rho).input_shape == (None, size, size, 3)
    headless = keras_archs.MobileNet(alpha=0.25, rho=rho, include_top=False)
    assert headless.input_shape == (None, size, size, 3)
    same = keras_archs.MobileNet(alpha=0.25, rho=rho, input_shape=(size, size, 1))
    assert same.input_shape == (None, size, size, 1)


@pytest.mark.parametrize("case", ["mobilenet", "resnet18", "efficientnetb0", "vgg11"])
def test_input_tensor(case):
    tensor = keras.layers.Rescaling(2.0)(keras.Input((64, 64, 3)))
    model = build(case, input_tensor=tensor, include_top=False)
    direct = build(case, input_shape=(64, 64, 3), include_top=False)
    direct.set_weights(model.get_weights())
    x = images(64)
    np.testing.assert_allclose(model(x), direct(2 * x), rtol=1e-5, atol=1e-5)


def precisions(cases, half):
    """Pairs with a policy; what is neither of `KINDS` nor, in half precision, of `half` is slow."""
    return [
        pytest.param(
            case,
            policy,
            marks=[]
            if case in KINDS and (policy == "float32" or case in half)
            else [pytest.mark.slow],
        )
        for case in cases
        for policy in ("float32", "mixed_float16", "mixed_bfloat16")
    ]


@pytest.mark.parametrize(("case", "policy"), precisions(SMALL, ["mobilenet", "coatnet0"]))
def test_gradients_reach_all_weights_and_the_head_is_float32(case, policy):
    keras.config.set_dtype_policy(policy)
    size = size_of(case)
    model = build(case, input_shape=(size, size, 3), classes=5)
    # Off the zeros that make a new block the identity: they would let no gradient through.
    randomize(model)
    for weight in model.trainable_weights:
        if not np.any(weight):
            weight.assign(np.random.default_rng(0).normal(0, 0.1, weight.shape))
    half = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}.get(policy, "float32")
    assert half in {layer.compute_dtype for layer in model.layers if layer.weights}
    assert model.output.dtype == "float32"
    with tf.GradientTape(persistent=True) as tape:
        scores = model(images(size, count=4), training=True)
        loss = keras.losses.SparseCategoricalCrossentropy()(np.arange(4), scores)
        # As a loss scale optimizer would: the small gradients of float16 come out at a large scale,
        # and the large ones at a small scale.
        losses = [scale * loss for scale in ((1, 64, 4096, 1 / 64) if half == "float16" else (1,))]
    assert np.isfinite(loss)
    # Softmax does not see a number that all its inputs have in common.
    missing = {
        weight.path for weight in model.trainable_weights if "context/bias" not in weight.path
    }
    for scaled in losses:
        if missing:
            gradients = map(tf.convert_to_tensor, tape.gradient(scaled, model.trainable_weights))
            for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
                if np.isfinite(gradient).all() and np.any(gradient):
                    missing.discard(weight.path)
    assert missing == set()


@pytest.mark.parametrize(
    ("case", "policy"), precisions([*KINDS[:-1], "nonlocalresnet50"], ["mobilenet"])
)
def test_an_optimizer_moves_the_weights(case, policy):
    keras.config.set_dtype_policy(policy)
    model = build(case, input_shape=(64, 64, 3), classes=4)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    ends = [model.trainable_weights[0], model.trainable_weights[-1]]
    before = [weight.numpy() for weight in ends]
    # The loss scale begins at 2**15 and is halved, with no update, while the gradients overflow.
    for _ in range(10 if scaled else 1):
        assert np.isfinite(model.train_on_batch(images(64, count=4), np.arange(4)))
        if not np.array_equal(before[-1], ends[-1].numpy()):
            break
    for old, weight in zip(before, ends, strict=True):
        assert np.isfinite(weight.numpy()).all()
        assert not np.array_equal(old, weight.numpy())


@pytest.mark.all_cases
@pytest.mark.parametrize("case", EACH)
def test_names_do_not_depend_on_what_was_built_before(case):
    with symbolic():
        first, second = (build(case, name=name) for name in (None, "mine"))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert second.name == "mine"


@pytest.mark.full
@pytest.mark.parametrize(
    "cases",
    [
        ("mobilenetv3small", "inceptionv1", "seresnet18", "coatnet0"),
        # The others hold no layers but those of one of these.
        pytest.param(
            set(SMALL) - {"resnet50", "resnext50", "resnetrs50", "vgg11_bn", *INCEPTIONS},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["some", "all"],
)
def test_saved_models_load_in_a_fresh_process(cases, tmp_path):
    for case in cases:
        size = size_of(case)
        model = build(case, input_shape=(size, size, 3), classes=5)
        model.save(tmp_path / f"{case}.keras")
        x = images(size)
        np.savez(tmp_path / f"{case}.npz", x=x, y=model(x))
    code = (
        "import keras, keras_archs, numpy as np, pathlib\n"
        "for path in pathlib.Path().glob('*.keras'):\n"
        "    model = keras.saving.load_model(path)\n"
        "    arrays = np.load(path.with_suffix('.npz'))\n"
        "    y = model(arrays['x'])\n"
        "    np.testing.assert_allclose(y, arrays['y'], atol=1e-5, err_msg=path.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


BAD = [
    ("mobilenet", {"alpha": 0}, "alpha"),
    ("mobilenet", {"alpha": -0.5}, "alpha"),
    ("mobilenet", {"alpha": 0.01}, "alpha"),
    ("mobilenet", {"alpha": float("nan")}, "alpha"),
    ("mobilenetv2", {"alpha": 0}, "alpha"),
    ("mobilenetv3small", {"alpha": float("nan")}, "alpha"),
    ("mobilenetv3large", {"dropout_rate": 1}, "dropout_rate"),
    ("efficientnetb0", {"drop_connect_rate": -0.1}, "drop_connect_rate"),
    ("efficientnet", {"width_coefficient": 0}, "width_coefficient"),
    ("efficientnet", {"resolution": 224.5}, "resolution"),
    ("mobilenet", {"depth_multiplier": 0.5}, "depth_multiplier"),
    ("mobilenet", {"dropout": 1.0}, "dropout"),
    ("vgg16", {"dropout": -0.1}, "dropout"),
    ("mobilenet", {"rho": 0.5}, "rho.*224, 192, 160, 128.*0.5"),
    ("mobilenet", {"rho": 0}, "rho"),
    ("mobilenet", {"rho": 8 / 7}, "rho"),
    ("mobilenet", {"rho": 4 / 7, "input_shape": (224, 224, 3)}, "rho.*128x128.*224"),
    ("mobilenet", {"input_shape": (31, 32, 3)}, "input_shape.*32.*31"),
    ("resnet50", {"input_shape": (224, 224)}, "input_shape"),
    ("resnet50", {"input_shape": (224, 224, None)}, "channels"),
    ("resnet50", {"input_shape": (224, 224, 0)}, "channels"),
    ("resnet50", {"input_shape": 224}, "input_shape"),
    ("vgg16", {"input_shape": (None, None, 3)}, "input_shape.*fixed"),
    ("vgg16", {"classes": 0}, "classes"),
    ("vgg16", {"classes": 2.5}, "classes"),
    ("resnet18", {"pooling": "mean"}, "pooling.*'avg'.*'mean'"),
    ("resnet18", {"classifier_activation": "softmaxx"}, "classifier_activation"),
    ("resnet18", {"weights": "imagenet"}, "weights='imagenet' is not published"),
    ("vgg16", {"weights": "imagenet", "batch_norm": True}, "weights='imagenet' is not published"),
    ("mobilenet", {"weights": "imagenet", "alpha": 0.4}, "weights='imagenet' is not published"),
    ("resnet50", {"weights": "imagenet", "classes": 10}, "classes=1000, got 10"),
    ("resnet50", {"weights": "imagenet", "input_shape": (224, 224, 1)}, "3 input channels, got 1"),
    ("resnet50", {"weights": "imagenet", "classifier_activation": "sigmoid"}, "sigmoid"),
    ("vgg16", {"weights": "imagenet", "input_shape": (96, 96, 3)}, "input_shape"),
    ("resnet50", {"weights": "/no/such/file.h5"}, "weights='/no/such/file.h5'"),
    ("resnet50", {"weights": __file__}, "must end in"),
    ("resnet50", {"alpha": 0.5}, "no argument 'alpha'.*input_shape"),
    ("vgg16", {"batchnorm": True}, "Did you mean 'batch_norm'"),
    ("inceptionv1", {"large_kernel": 7}, "large_kernel"),
    ("inceptionv1", {"auxiliary": True, "include_top": False}, "auxiliary"),
    ("inceptionv1", {"auxiliary": True, "input_shape": (64, 64, 3)}, "auxiliary.*80"),
    ("inceptionv3", {"input_shape": (74, 75, 3)}, "input_shape.*75"),
    ("resnet18", {"drop_connect_rate": 1.0}, "drop_connect_rate"),
    ("resnet18v2", {"drop_connect_rate": -1}, "drop_connect_rate"),
    ("resnetrs50", {"dropout_rate": 1}, "dropout_rate"),
    ("nonlocalresnet50", {"blocks": 3}, "blocks must be 1, 5 or 10, got 3"),
    ("nonlocalresnet50", {"pairing": "dot"}, "pairing.*'dot'"),
    ("botnet50", {"last_stride": 3}, "last_stride"),
    ("botnet50", {"num_heads": 5}, "num_heads=5"),
    ("aaresnet50", {"nu": 0}, "nu"),
    ("mobilenetv4convsmall", {"dropout_rate": 1}, "dropout_rate"),
    ("coatnet0", {"drop_connect_rate": 2}, "drop_connect_rate"),
    ("coatnet0", {"drop_connect_rate": "0.2"}, "drop_connect_rate"),
    (
        "resnet50",
        {"include_preprocessing": True, "input_shape": (64, 64, 4)},
        r"include_preprocessing.*input_shape.*1 or 3 channels.*\(64, 64, 4\)",
    ),
    ("mobilnet", {}, "Did you mean 'mobilenet'"),
    ("resnet51", {}, "resnet50"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD, ids=[f"{n} {a}" for n, a, _ in BAD])
def test_bad_input_is_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_archs.create_model(name, **arguments)


def test_input_tensor_contradicting_input_shape():
    with pytest.raises(ValueError, match=r"input_shape.*contradicts"):
        keras_archs.ResNet18(input_tensor=keras.Input((64, 64, 3)), input_shape=(32, 32, 3))


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels_last"):
            keras_archs.ResNet18()
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.full
@pytest.mark.parametrize("case", ["mobilenet", "efficientnetb0", "efficientnetlite0", "resnet18"])
def test_preprocessing_inside_the_model_is_that_outside(case, tmp_path):
    plain = build(case, input_shape=(64, 64, 3), classes=5)
    whole = build(case, input_shape=(64, 64, 3), classes=5, include_preprocessing=True)
    whole.set_weights(plain.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype="uint8")
    family = case.removesuffix("_bn")
    expected = plain(keras_archs.preprocess_input(pixels, family))
    np.testing.assert_allclose(whole(pixels), expected, atol=1e-5)
    whole.save(tmp_path / "whole.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "whole.keras")(pixels), whole(pixels)
    )


# numpy, from the papers' words: pixels minus the mean image, or scaled to -1..1.
IMAGENET_BGR = np.array([103.939, 116.779, 123.68])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet", lambda x: x / 127.5 - 1),
        ("vgg16", lambda x: x[..., ::-1] - IMAGENET_BGR),
        ("resnet50", lambda x: x[..., ::-1] - IMAGENET_BGR),
    ],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_preprocessing_layer(name, expected, policy):
    keras.config.set_dtype_policy(policy)
    layer = keras_archs.registry.find_family(name).preprocessing.layer()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype="uint8")
    got = layer(pixels)
    assert keras.backend.standardize_dtype(got.dtype) == layer.compute_dtype
    tolerance = {"float32": 1e-5, "mixed_float16": 1e-3, "mixed_bfloat16": 8e-3}[policy]
    np.testing.assert_allclose(
        keras.ops.cast(got, "float32"),
        expected(pixels.astype("float64")),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("name", ["mobilenet", "efficientnetb0", "efficientnetv2b0"])
def test_a_seed_gives_the_weights_and_another_seed_others(name):
    def kernels(seed):
        keras.utils.set_random_seed(seed)
        model = keras_archs.create_model(name, classes=3)
        return [w.numpy() for w in model.trainable_weights if w.path.endswith("kernel")]

    first, again, other = kernels(0), kernels(0), kernels(1)
    for one, same, unlike in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != unlike).any()
    assert len({kernel.tobytes() for kernel in first}) == len(first)
