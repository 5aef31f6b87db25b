"""Sources of an export: models, files, runs and NAME:WEIGHTS."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_archs
from keras_archs.errors import InputError
from keras_archs.preprocessing import PIXELS, TF
from tests.tflite_export.networks import build, stripes
from tests.training import tiny_net
from tests.training.runs import COLOURS, write_images
from tflite_export import convert, sources
from tflite_export.sources import open_source
from training import TrainConfig
from training.runs.run_folder import RunFolder, Settings

IMAGES = stripes(4)[0]


@pytest.fixture
def tiny():
    with tiny_net.registered():
        yield keras_archs.create_model("tinynet", input_shape=(32, 32, 3), classes=3)


def assert_same(model, other):
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def write_run(folder, model, dataset):
    config = TrainConfig(model="tinynet", dataset=f"image_folder:{dataset}", image_size=32)
    run = RunFolder(folder)
    run.write_settings(Settings(config, (32, 32, 3), tuple(COLOURS)))
    if model:
        model.save(run.best)


def test_a_model_is_itself():
    model = build()
    source = open_source(model)
    assert source.model is model
    assert (source.class_names, source.preprocessing, source.run) == (None, None, None)


def test_a_file(tmp_path):
    model = build()
    model.save(tmp_path / "net.keras")
    source = open_source(str(tmp_path / "net.keras"))
    np.testing.assert_array_equal(source.model(IMAGES), model(IMAGES))
    assert (source.class_names, source.preprocessing, source.run) == (None, None, None)


def test_a_model_that_begins_with_its_preprocessing_takes_pixels(tiny):
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, tiny(TF.layer()(image)))
    assert open_source(model).preprocessing == PIXELS


def test_a_run_knows_its_classes_and_its_images(tmp_path, tiny):
    images = tmp_path / "images"
    images.mkdir()
    write_images(images)
    write_run(tmp_path / "run", tiny, images)
    source = open_source(tmp_path / "run")
    assert_same(source.model, tiny)
    assert source.class_names == tuple(COLOURS)
    assert source.preprocessing == TF
    assert source.run.arrays("test", 5)[0].shape == (5, 32, 32, 3)


def test_a_run_can_be_read_without_its_images(tmp_path, tiny):
    write_run(tmp_path / "run", tiny, tmp_path / "gone")
    source = open_source(tmp_path / "run")
    assert source.class_names == tuple(COLOURS)
    with pytest.raises(InputError, match="gone"):
        _ = source.run
    # A misspelt name is reported before the missing images.
    with pytest.raises(InputError, match=r"keep_float: .* has no layer 'cov'.* Did you mean 'conv"):
        convert(source, "dynamic", keep_float=["cov"])


@pytest.mark.full
@pytest.mark.usefixtures("tiny")
def test_published_weights(tmp_path, monkeypatch):
    thousand = keras_archs.create_model("tinynet")
    thousand.save_weights(tmp_path / "tiny.weights.h5")
    source = open_source(f"tinynet:{tmp_path / 'tiny.weights.h5'}")
    assert_same(source.model, thousand)
    assert (source.class_names, source.preprocessing) == (None, TF)

    names = [[("n0", f"name {i}", 1.0)] for i in range(1000)]
    monkeypatch.setattr(sources, "decode_predictions", lambda *_, **__: names)
    monkeypatch.setattr(sources, "find", lambda _: Published())
    source = open_source("tinynet:imagenet")
    assert source.class_names[999] == "name 999"


class Published:
    """A family whose weights need no network."""

    family = tiny_net.FAMILY

    def builder(self, weights):
        assert weights == "imagenet"
        return build()


def test_without_a_network_the_names_of_imagenet_are_missing(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure")  # as Keras does

    monkeypatch.setattr(sources, "decode_predictions", fail)
    monkeypatch.setattr(sources, "find", lambda _: Published())
    with pytest.warns(
        UserWarning, match="names of the ImageNet classes are missing: URL fetch failure"
    ):
        assert open_source("tinynet:imagenet").class_names is None


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_of_an_unknown_class_is_named(tmp_path, nested):
    class Doubling(layers.Layer):  # no module has it
        def call(self, inputs):
            return inputs * 2

    image = keras.Input((24, 24, 3))
    block = Doubling(name="twice")
    x = keras.Sequential([keras.Input((24, 24, 3)), block]) if nested else block
    scores = layers.Dense(2)(layers.GlobalAveragePooling2D()(x(image)))
    path = tmp_path / "net.keras"
    keras.Model(image, scores).save(path)
    with pytest.raises(
        InputError, match=r"has a layer 'twice' of the unknown class Doubling"
    ) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("tiny")
def test_what_is_no_source_is_refused(tmp_path):
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"PK no zip")
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "begun", None, tmp_path)
    for source, message in {
        5: "source must be a Keras model, a path or NAME:WEIGHTS, got int",
        tmp_path
        / "none.keras": "does not exist.*a .keras file, the folder of a run, or NAME:WEIGHTS",
        damaged: "damaged.keras.* is not a Keras model",
        tmp_path / "empty": "is not a run folder",
        tmp_path / "begun": "best.keras.* does not exist",
        "mobilenot:imagenet": "no model 'mobilenot'.*mean 'mobilenet'",
        "tinynet:imagenet": "weights='imagenet' is not published",
        "tinynet:none.weights.h5": "'none.weights.h5' is not a file",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            open_source(source)
        assert "\n" not in str(caught.value)
