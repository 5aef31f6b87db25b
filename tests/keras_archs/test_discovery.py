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

import keras_archs


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
