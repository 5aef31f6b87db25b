"""Settings that are refused before the images are read: text, which the scan of them refuses."""

import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_archs
import training
from keras_archs.errors import InputError
from training.runs.run_folder import RunFolder, Settings

pytestmark = pytest.mark.usefixtures("tiny")

SHAPE = (32, 32, 3)
KINDS = ("folder", "named", "unnamed")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Datasets of classes `cat` and `dog`, and files that do not fit a run on them."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("cat", "dog"):
        (folder / "folder" / name).mkdir(parents=True)
        for i in range(12):
            (folder / "folder" / name / f"{i}.jpg").write_text("no image")
    for kind in ("named", "unnamed"):
        (folder / kind).mkdir()
        with tf.io.TFRecordWriter(str(folder / kind / "train")) as writer:
            for i in range(12):
                content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"no image"]))
                label = tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 2]))
                features = {"image/encoded": content, "image/class/label": label}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    (folder / "named" / "image-class-label.labels.txt").write_text("cat\ndog\n")

    (folder / "text.keras").write_text("no model")
    build = partial(keras_archs.create_model, "tinynet", input_shape=SHAPE)
    build(classes=2).save(folder / "two.keras")
    build(classes=3).save(folder / "three.keras")
    build(classes=2, alpha=2.0).save(folder / "wide.keras")
    build(classes=3).save_weights(folder / "three.weights.h5")
    broken = build(classes=2)
    broken.get_layer("conv").kernel.assign(np.full((3, 3, 3, 16), np.nan))
    broken.save(folder / "nan.keras")
    gray = keras.Input((32, 32, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(gray)
    keras.Model(gray, keras.layers.Dense(2, "softmax")(pooled)).save(folder / "gray.keras")
    return folder


def dataset(place, kind):
    return f"image_folder:{place}/folder" if kind == "folder" else f"tfrecord:{place}/{kind}/train"


def config(place, kind="folder", **settings):
    given = {"model": "tinynet", "dataset": dataset(place, kind), "image_size": 32, **settings}
    given = json.loads(json.dumps(given).replace("{place}", str(place)))
    return training.TrainConfig(**given)


WRONG = [
    ({"init": "{place}/none.keras"}, "init='.*none.keras' does not contain a model"),
    ({"init": "nonsense"}, "init='nonsense' is neither"),
    ({"init": "{place}/text.keras"}, "init='.*text.keras' is not a Keras model"),
    ({"init": "{place}/wide.keras"}, "init does not fit tinynet"),
    ({"init": "{place}/nan.keras"}, "init='.*nan.keras' has weights that are not finite"),
    ({"init": "{place}/folder"}, "folder' is not a run folder"),
    ({"init": "imagenet"}, "init='imagenet' is not published"),
    ({"teacher": "{place}/none.keras"}, "teacher='.*none.keras' does not contain a model"),
    ({"teacher": "{place}/text.keras"}, "teacher='.*text.keras' is not a Keras model"),
    ({"freeze": 9, "init": "{place}/two.keras"}, "freeze=9: tinynet has no map of this level"),
    ({"freeze": "cnv", "init": "{place}/two.keras"}, "freeze='cnv' is not a layer.*'conv'"),
    ({"freeze_batch_norm": True}, "freeze_batch_norm=True needs initial weights.*Pass init"),
    ({"freeze": 2}, "freeze=2 needs initial weights.*Pass init"),
    ({"image_size": 16}, "image_size must be at least 32 for tinynet, got 16"),
    ({"image_size": 64, "progressive_from": 40}, "progressive_from=40 must be a multiple of 32"),
    ({"model_args": {"weights": "{place}/none.h5"}}, "weights='.*none.h5' is not a file"),
    ({"model_args": {"attention": "sse"}}, "attention.*sse"),
    ({"model": "inceptionv3", "image_size": 64}, "image_size must be at least 75"),
    ({"strategy": "multiworker"}, "strategy='multiworker' needs a list of workers"),
]
OF_CLASSES = [  # which TFRecord files without names tell at their end
    ({"teacher": "{place}/three.keras"}, r"teacher must return scores of shape \(None, 2\)"),
    ({"teacher": "{place}/gray.keras"}, "teacher takes images of 1 channels"),
    ({"teacher": "tinynet:{place}/three.weights.h5"}, "^teacher='tinynet:.*does not fit"),
    ({"model_args": {"weights": "{place}/three.weights.h5"}}, "weights='.*' does not fit tinynet"),
    (
        {"model": "mobilenet", "model_args": {"weights": "imagenet"}},
        "needs classes=1000, got 2; use init",
    ),
]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [(kind, *case) for kind in KINDS for case in WRONG]
    + [(kind, *case) for kind in KINDS[:2] for case in OF_CLASSES],
)
def test_wrong_settings_are_told_before_the_images(place, tmp_path, kind, settings, message):
    with pytest.raises(InputError, match=message) as error:
        training.train(config(place, kind, **settings), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"init": "{place}/three.keras", "freeze": 2, "layer_decay": 0.5, "qat": False},
        {"init": "{place}/two.keras", "qat": True},
        {"teacher": "{place}/two.keras", "precision": "mixed_bfloat16"},
        {"image_size": 64, "progressive_from": 32, "freeze_batch_norm": False},
        {"model_args": {"weights": "{place}/two.keras"}, "freeze_batch_norm": True},
    ],
)
def test_settings_that_fit_come_as_far_as_the_images(place, tmp_path, kind, settings):
    with pytest.raises(InputError, match="images are corrupt"):
        training.train(config(place, kind, **settings), tmp_path / "run")


@pytest.fixture
def stored(place, tmp_path):
    """The folder of a run that has not finished an epoch."""

    def write(class_names=("cat", "dog"), **settings):
        folder = RunFolder(tmp_path)
        folder.write_settings(Settings(config(place, **settings), SHAPE, class_names))
        return folder

    return write


@pytest.mark.full
def test_a_run_is_checked_before_it_goes_on(stored):
    out = stored(teacher="{place}/three.keras").path
    with pytest.raises(InputError, match="teacher must return scores"):
        training.resume(out)
    with pytest.raises(InputError, match="image_size must be at least 32"):
        training.resume(out, changes={"image_size": 16, "teacher": None}, force=True)
    with pytest.raises(InputError, match="had the classes cat, cow and now has cat, dog"):
        training.resume(stored(("cat", "cow")).path)
    # A run of an earlier version may have begun with norms of random values.
    with pytest.raises(InputError, match="images are corrupt"):
        training.resume(stored(freeze_batch_norm=True).path)


@pytest.mark.full
def test_a_model_is_found_before_the_images_of_a_report(stored):
    folder = stored()
    folder.metrics.write_text('{"machine": {}}')
    with pytest.raises(InputError, match=r"does not contain best\.keras"):
        training.report(folder.path)
    folder.best.write_text("no model")
    with pytest.raises(InputError, match=r"best\.keras' cannot be read"):
        training.report(folder.path)
