"""Finding, preprocessing, decoding; and what importing the package costs."""

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import keras_archs
from keras_archs import registry
from keras_archs.errors import InputError


def test_list_models():
    assert keras_archs.list_models("mobilenet*") == [
        "mobilenet",
        "mobilenetv2",
        "mobilenetv3large",
        "mobilenetv3small",
        "mobilenetv4convlarge",
        "mobilenetv4convmedium",
        "mobilenetv4convsmall",
        "mobilenetv4hybridlarge",
        "mobilenetv4hybridmedium",
    ]
    depths = (50, 101, 152, 200, 270, 350, 420)
    assert keras_archs.list_models("ResNetRS*") == [f"resnetrs{depth}" for depth in depths]
    assert {f"resnet{n}v2" for n in (18, 34, 50, 101, 152)} <= set(keras_archs.list_models("*v2"))
    assert keras_archs.list_models("nothing*") == []
    exported = {
        name.lower()
        for name in keras_archs.__all__
        if inspect.isfunction(getattr(keras_archs, name))
    }
    assert set(keras_archs.list_models()) <= exported


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *(("mobilenet_v2", "mobilenetv2"), ("MobileNet-V2", "mobilenetv2")),
        *(("efficientnet_b0", "efficientnetb0"), ("EfficientNet B0", "efficientnetb0")),
        *(
            ("tf_efficientnetv2_s", "efficientnetv2s"),
            ("tf_efficientnet_lite0", "efficientnetlite0"),
        ),
        *(("resnet-50", "resnet50"), ("resnet_50", "resnet50"), ("resnetv2_50", "resnet50v2")),
        *(("mobilenetv1_100", "mobilenet"), ("mobilenetv2_100", "mobilenetv2")),
        *(
            ("mobilenetv3_large_100", "mobilenetv3large"),
            ("mobilenet_v3_small", "mobilenetv3small"),
        ),
        *(("mobilenetv4_conv_small", "mobilenetv4convsmall"), ("inception_v3", "inceptionv3")),
        *(("wide_resnet50_2", "wideresnet50"), ("resnext50_32x4d", "resnext50")),
        *(("inception_resnet_v2", "inceptionresnetv2"), ("seresnext101_32x4d", "seresnext101")),
        *(("vgg-16", "vgg16"), ("coatnet_0", "coatnet0")),
    ],
)
def test_spellings_of_other_collections(spelling, name):
    assert registry.find(spelling).name == name
    assert registry.find(spelling.upper()).name == name
    assert registry.find_family(spelling) is registry.find(name).family


def test_no_spelling_stands_for_two_networks():
    for name in keras_archs.list_models():
        assert registry.find(name).name == name
    assert set(registry._SYNONYMS.values()) <= set(registry._MODELS)


@pytest.mark.parametrize(
    ("pattern", "same"),
    [
        ("mobilenet_v2*", "mobilenetv2*"),
        ("EfficientNet-B?", "efficientnetb?"),
        ("resnet_[1-5]*", "resnet[1-5]*"),
    ],
)
def test_patterns_in_other_spellings(pattern, same):
    assert keras_archs.list_models(pattern) == keras_archs.list_models(same) != []


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (keras_archs.create_model, ["mobilenet_v5"], "Did you mean 'mobilenetv"),
        (keras_archs.create_model, ["mobilenetv2_140"], "Did you mean 'mobilenetv2'"),
        (keras_archs.create_model, [50], "model must be a name such as 'resnet50', got 50"),
        (keras_archs.preprocess_input, [np.zeros((8, 8, 3)), None], "model must be a name"),
        (keras_archs.list_models, [None], "pattern must be a string such as 'resnet.*', got None"),
    ],
)
def test_wrong_names(function, arguments, message):
    with pytest.raises(InputError, match=message):
        function(*arguments)


def test_create_model():
    model = keras_archs.create_model("mobilenet", alpha=0.5, classes=10)
    assert model.output_shape == (None, 10)
    assert model.get_layer("conv1").filters == 16


def test_builders_have_the_signature_of_keras_applications():
    same = ("MobileNet", "MobileNetV2", "VGG16", "ResNet50", "ResNet50V2", "EfficientNetB0")
    for name in (*same, "InceptionV3", "Xception"):
        theirs = list(inspect.signature(getattr(keras.applications, name)).parameters)
        builder = getattr(keras_archs, name)
        assert list(inspect.signature(builder).parameters)[: len(theirs)] == theirs
        assert builder.__name__ == name


def test_docstrings_explain_every_argument():
    for name in keras_archs.list_models():
        builder = keras_archs.registry.find(name).builder
        for argument in inspect.signature(builder).parameters:
            assert f"\n    {argument}: " in builder.__doc__, f"{name} does not explain {argument}"


REFERENCES = [("mobilenet", "mobilenet"), ("vgg16", "vgg16"), ("resnet152", "resnet50")]
PIXELS = arrays.arrays(
    st.sampled_from(["uint8", "float32"]), (2, 3, 4, 3), elements=st.integers(0, 255)
)


@pytest.mark.parametrize(("ours", "theirs"), REFERENCES)
@given(x=PIXELS)
def test_preprocessing_is_that_of_keras_applications(ours, theirs, x):
    expected = getattr(keras.applications, theirs).preprocess_input(x.astype("float32"))
    before = x.copy()
    result = keras_archs.preprocess_input(x, ours)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, expected, atol=1e-4)
    np.testing.assert_array_equal(x, before)
    tensor = keras_archs.preprocess_input(tf.constant(x), ours)
    np.testing.assert_allclose(tensor, expected, atol=1e-4)
    undone = keras_archs.registry.find(ours).family.preprocessing.undo(expected)
    np.testing.assert_allclose(undone, x, atol=1e-4)


def test_preprocessing_in_tf_data_by_family_and_for_gray_images():
    gray = np.full((2, 4, 4, 1), 255, "uint8")
    batches = tf.data.Dataset.from_tensors(gray).map(keras_archs.mobilenet.preprocess_input)
    np.testing.assert_array_equal(next(iter(batches)), np.ones((2, 4, 4, 1)))
    caffe = keras_archs.preprocess_input(gray, "vgg")
    np.testing.assert_allclose(caffe, 255 - np.mean([103.939, 116.779, 123.68]), atol=1e-4)
    assert keras_archs.preprocess_input(np.zeros((1, 2, 2, 3), "float16"), "vgg").dtype == "float16"
    with pytest.raises(ValueError, match="channels"):
        keras_archs.preprocess_input(np.zeros((1, 2, 2, 2)), "vgg")
    with pytest.raises(ValueError, match="Did you mean 'vgg1"):
        keras_archs.preprocess_input(gray, "vgg12")


PICTURE = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype="uint8")


@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(PICTURE),
        Image.fromarray(PICTURE).convert("RGBA"),
        PICTURE.astype("int64"),
        PICTURE.astype("float64"),
        PICTURE.tolist(),
        [PICTURE],
        [Image.fromarray(PICTURE)],
        (Image.fromarray(PICTURE), PICTURE, tf.constant(PICTURE)),
        PICTURE[None],
        tf.constant(PICTURE),
    ],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("model", ["mobilenet", "resnet50"])
def test_preprocessing_takes_images_of_any_kind(given, model):
    single = getattr(keras.applications, model).preprocess_input(PICTURE.astype("float32"))
    got = np.asarray(keras_archs.preprocess_input(given, model))
    count = len(given) if isinstance(given, tuple | list) and len(given) < 5 else None
    expected = single if count is None else np.stack([single] * count)
    assert got.dtype == ("float64" if getattr(given, "dtype", None) == "float64" else "float32")
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-4)


def test_preprocessing_of_pictures_upright_gray_and_of_16_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(PICTURE).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        got = keras_archs.preprocess_input(image, "mobilenet")
    np.testing.assert_allclose(got, np.rot90(PICTURE, -1) / 127.5 - 1, atol=1e-6)
    gray = keras_archs.preprocess_input(Image.fromarray(PICTURE[..., 0]), "mobilenet")
    np.testing.assert_allclose(gray, np.repeat(PICTURE[..., :1], 3, -1) / 127.5 - 1, atol=1e-6)
    deep = Image.fromarray(PICTURE[..., 0].astype("uint16") * 257)
    np.testing.assert_array_equal(keras_archs.preprocess_input(deep, "mobilenet"), gray)


@pytest.mark.parametrize(
    "x",
    [
        *(None, "cat.jpg", 3, object(), {}, [], [None], ["cat.jpg"], np.array(["cat.jpg"])),
        *(
            np.zeros(3),
            np.zeros((28, 28)),
            np.zeros((8, 8, 3), bool),
            np.zeros((1, 8, 8, 3), object),
        ),
        *(np.zeros((8, 8, 4)), np.zeros((3, 8, 8)), [np.zeros((8, 8, 3)), np.zeros((9, 8, 3))]),
        *([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], keras.Input((8,))),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_preprocessing_does_not_take_is_named(x):
    with pytest.raises(InputError, match=r"^x (must|has)") as error:
        keras_archs.preprocess_input(x, "resnet50")
    assert "\n" not in str(error.value)


def test_preprocessing_warns_of_images_that_were_scaled_before(recwarn):
    pixels = np.arange(300.0).reshape(10, 10, 3) % 256
    fine = [pixels, pixels - 8, 0 * pixels, pixels.astype("uint8") % 2, pixels // 100]
    for x in fine:
        keras_archs.preprocess_input(x, "resnet50")
    assert not recwarn.list
    for x in (
        pixels / 255,
        *(
            keras_archs.preprocess_input(pixels, m)
            for m in ("mobilenet", "resnet50", "efficientnetb0")
        ),
    ):
        with pytest.warns(UserWarning, match=r"x has values from .* pixels of 0\.\.255"):
            keras_archs.preprocess_input(x, "resnet50")


def test_decode_predictions_takes_one_image_tensors_and_dicts_of_names():
    names = {0: "ant", 1: "bee", 2: "cat"}
    for scores in ([0.1, 0.7, 0.2], np.array([1, 7, 2]), tf.constant([[0.1, 0.7, 0.2]])):
        ((best,),) = keras_archs.decode_predictions(scores, top=np.int64(1), class_names=names)
        assert best[:2] == ("1", "bee")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *[("predictions", value) for value in (None, "x", [[0.1], [0.2, 0.3]], keras.Input((3,)))],
        *[("predictions", np.zeros((1, 4))), ("predictions", np.zeros((1, 1, 3)))],
        *[("top", value) for value in (0, "5", None, 2.5)],
        *[
            ("class_names", value)
            for value in ("abc", 3, {"ant": 0, "bee": 1, "cat": 2}, {1, 2, 3})
        ],
    ],
)
def test_what_decode_predictions_does_not_take_is_named(argument, value):
    arguments = {"predictions": np.zeros((1, 3)), "top": 1, "class_names": ["ant", "bee", "cat"]}
    with pytest.raises(InputError, match=f"^{argument} must"):
        keras_archs.decode_predictions(**{**arguments, argument: value})


def test_decode_predictions_with_own_classes():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    decoded = keras_archs.decode_predictions(scores, top=2, class_names=["ant", "bee", "cat"])
    assert decoded == [
        [("1", "bee", 0.7), ("2", "cat", 0.2)],
        [("0", "ant", 0.5), ("2", "cat", 0.3)],
    ]
    with pytest.raises(ValueError, match=r"\(batch, 1000\)"):
        keras_archs.decode_predictions(scores)
    with pytest.raises(ValueError, match="top"):
        keras_archs.decode_predictions(scores, top=0, class_names=["ant", "bee", "cat"])


def test_decode_predictions_of_imagenet_is_that_of_keras(monkeypatch):
    monkeypatch.setattr(
        keras.applications.imagenet_utils, "decode_predictions", lambda scores, top: (scores, top)
    )
    scores = np.zeros((1, 1000))
    assert keras_archs.decode_predictions(scores, top=3) == (scores, 3)


def test_importing_keras_archs_builds_nothing_and_brings_no_training_stack():
    code = (
        "import gc, sys, keras, keras_archs;"
        "heavy = {'tensorflow_datasets', 'training', 'tflite_export', 'pydantic', 'typer'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "layers = [o for o in gc.get_objects() if isinstance(o, keras.layers.Layer)];"
        "assert not layers, layers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
