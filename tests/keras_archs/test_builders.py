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
from tests.keras_archs.helpers import images

SMALL = {
    "mobilenet": {"alpha": 0.25},
    "mobilenetv2": {"alpha": 0.35},
    "mobilenetv3small": {"alpha": 0.75},
    "efficientnetb0": {},
    "efficientnetlite0": {},
    "efficientnetv2b0": {},
    "resnet18": {},
    "resnet18v2": {},
    "resnet50": {},
    "vgg11": {},
    "vgg11_bn": {"batch_norm": True},
}


def build(case, **arguments):
    return keras_archs.create_model(case.removesuffix("_bn"), **SMALL[case], **arguments)


# Trainable parameters as torchvision (0.19, weights' meta data) and Keras' summaries give them.
PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_583_592,
    "resnet101": 44_601_832,
    "resnet152": 60_268_520,
    "resnet50v2": 25_568_360,
    "resnet101v2": 44_577_896,
    "resnet152v2": 60_236_904,
    "mobilenet": 4_231_976,
    "mobilenetv2": 3_504_872,
    "mobilenetv3small": 2_542_856,
    "mobilenetv3large": 5_483_032,
    "efficientnet": 5_288_548,
    "efficientnetb0": 5_288_548,
    "efficientnetb1": 7_794_184,
    "efficientnetb2": 9_109_994,
    "efficientnetb3": 12_233_232,
    "efficientnetb4": 19_341_616,
    "efficientnetb5": 30_389_784,
    "efficientnetb6": 43_040_704,
    "efficientnetb7": 66_347_960,
    "efficientnetlite0": 4_652_008,
    "efficientnetv2b0": 7_139_704,
    "efficientnetv2b1": 8_141_052,
    "efficientnetv2b2": 10_096_086,
    "efficientnetv2b3": 14_358_406,
    "efficientnetv2s": 21_458_488,
    "efficientnetv2m": 54_139_356,
    "efficientnetv2l": 118_515_272,
    "inceptionv3": 23_817_352,
    "xception": 22_855_952,
}
# Millions, as the papers print them, where no exact figure is published.
ROUNDED = {
    "resnet18v2": 11.69,
    "resnet34v2": 21.80,
    "efficientnetv2xl": 208.12,
    "efficientnetlite1": 5.42,
    "efficientnetlite2": 6.09,
    "efficientnetlite3": 8.20,
    "efficientnetlite4": 13.01,
}
BATCH_NORM_PARAMETERS = {
    "vgg11": 132_868_840,
    "vgg13": 133_053_736,
    "vgg16": 138_365_992,
    "vgg19": 143_678_248,
}


def count(model):
    return sum(np.prod(weight.shape, dtype=int) for weight in model.trainable_weights)


def test_published_parameters_of_every_model():
    # A stateless scope spares the memory of the weights: only their shapes count.
    with keras.StatelessScope():
        counted = {
            name: count(keras_archs.create_model(name)) for name in keras_archs.list_models()
        }
        with_norm = {
            name: count(keras_archs.create_model(name, batch_norm=True))
            for name in BATCH_NORM_PARAMETERS
        }
    rounded = {name: round(counted.pop(name) / 1e6, 2) for name in ROUNDED}
    assert counted == PARAMETERS
    assert rounded == ROUNDED
    assert with_norm == BATCH_NORM_PARAMETERS


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels(case, channels):
    model = build(case, input_shape=(40, 56, channels), include_top=False, pooling="avg")
    assert model(np.zeros((2, 40, 56, channels), "float32")).shape == (2, model.output_shape[-1])


@settings(max_examples=8, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90))
@pytest.mark.parametrize(
    "case", ["mobilenet", "mobilenetv2", "mobilenetv3small", "efficientnetb0", "resnet18", "vgg11"]
)
def test_static_and_dynamic_size_give_the_same_map(case, height, width):
    static = build(case, input_shape=(height, width, 3), include_top=False)
    dynamic = build(case, include_top=False)
    x = keras.KerasTensor((2, height, width, 3))
    assert dynamic.compute_output_spec(x).shape == (2, *static.output_shape[1:])


@settings(max_examples=25, deadline=None)
@given(
    alpha=st.floats(1 / 32, 1.5),
    depth_multiplier=st.integers(1, 3),
    size=st.sampled_from([None, 32, 65, 128]),
    classes=st.integers(1, 50),
)
def test_mobilenet_takes_any_width_and_size(alpha, depth_multiplier, size, classes):
    with keras.StatelessScope():
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


@pytest.mark.parametrize("case", SMALL)
def test_input_tensor(case):
    tensor = keras.layers.Rescaling(2.0)(keras.Input((64, 64, 3)))
    model = build(case, input_tensor=tensor, include_top=False)
    direct = build(case, input_shape=(64, 64, 3), include_top=False)
    direct.set_weights(model.get_weights())
    x = images(64)
    np.testing.assert_allclose(model(x), direct(2 * x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("case", SMALL)
def test_gradients_reach_all_weights_and_the_head_is_float32(case, policy):
    keras.config.set_dtype_policy(policy)
    model = build(case, input_shape=(64, 64, 3), classes=5)
    half = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}.get(policy, "float32")
    assert {layer.compute_dtype for layer in model.layers if "conv" in layer.name} >= {half}
    assert model.output.dtype == "float32"
    with tf.GradientTape() as tape:
        scores = model(images(64, count=4), training=True)
        loss = keras.losses.SparseCategoricalCrossentropy()(np.arange(4), scores)
    assert np.isfinite(loss)
    gradients = tape.gradient(loss, model.trainable_weights)
    without = {
        weight.path.split("/")[-2:][0]
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.isfinite(gradient).all() or not np.any(gradient)
    }
    assert without == set()


@pytest.mark.parametrize("case", SMALL)
def test_names_do_not_depend_on_what_was_built_before(case):
    first, second = (build(case, input_shape=(64, 64, 3), name=name) for name in (None, "mine"))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert second.name == "mine"


@pytest.mark.parametrize("case", SMALL)
def test_saved_model_loads_in_a_fresh_process(case, tmp_path):
    model = build(case, input_shape=(64, 64, 3), classes=5)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", images(64))
    np.save(tmp_path / "y.npy", model(images(64)))
    code = (
        "import keras, keras_archs, numpy as np;"
        "model = keras.saving.load_model('model.keras');"
        "np.testing.assert_allclose(model(np.load('x.npy')), np.load('y.npy'), atol=1e-6)"
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


@pytest.mark.parametrize("case", SMALL)
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
