"""Warnings about data and trainings of little use, against numbers counted by hand."""

import json
import warnings
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from PIL import Image

import training
from tests.training.runs import tiny_config
from training.data import open_dataset
from training.evaluation.metrics import Predictions
from training.evaluation.sanity import (
    check_data,
    check_predictions,
    check_statistics,
    count_labels,
)
from training.runs.run import Run
from training.runs.run_folder import RunFolder, Settings

pytestmark = pytest.mark.usefixtures("tiny")


@contextmanager
def told(*messages):
    """The block has to warn once for each of these, in their order, and of nothing else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = [str(each.message) for each in caught if each.category is UserWarning]
    assert len(texts) == len(messages), texts
    for text, message in zip(texts, messages, strict=True):
        assert message in text
        assert "\n" not in text


def write(folder, **counts):
    """Images of one colour, so many of each class in each split, such as `train_cat=3`."""
    for place, count in counts.items():
        where = folder.joinpath(*place.split("_"))
        where.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(where / f"{i}.png")
    return folder


def run_on(folder, **settings):
    config = tiny_config(folder, **settings)
    data = open_dataset(config.dataset)
    return Run(
        RunFolder(folder / "run"),
        Settings(config, (32, 32, 3), data.class_names, data.counts),
        data,
    )


SMALL = "has only 2 validation images (one is 50.0 points of accuracy) and 4 test images (one is"


@pytest.mark.parametrize(
    ("counts", "messages"),
    [
        ({"cat": 20, "dog": 10}, ["has only 3 validation images (one is 33.3 points"]),
        ({"cat": 500, "dog": 500}, []),
        ({"cat": 1000, "dog": 100}, []),
        (
            {"train_cat": 20, "train_dog": 2, "val_cat": 100, "test_dog": 100},
            ["no validation image of 'dog'.", "no test image of 'cat'."],
        ),
        (
            {
                "train_cat": 11,
                "train_dog": 1,
                "val_cat": 1,
                "val_dog": 1,
                "test_cat": 2,
                "test_dog": 2,
            },
            [SMALL, "has 1 training images of 'dog' and 11 of 'cat', 1:11."],
        ),
        (
            {
                "train_cat": 10,
                "train_dog": 1,
                "val_cat": 60,
                "val_dog": 60,
                "test_cat": 60,
                "test_dog": 60,
            },
            [],
        ),
    ],
)
def test_data_of_little_use(tmp_path, counts, messages):
    run = run_on(write(tmp_path, **counts))
    with told(*messages):
        check_data(run)


def test_labels_are_counted_without_a_look_at_the_images(tmp_path):
    folder = write(tmp_path, train_cat=3, train_cow=1, train_dog=5, val_cat=1, test_cat=1)
    examples = open_dataset(f"image_folder:{folder}").splits["train"]
    for file in folder.glob("train/*/*.png"):
        file.unlink()
    assert count_labels(examples, 4).tolist() == [3, 1, 5, 0]


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"batch_norm_momentum": 0.99},
            ["batch_norm_momentum=0.99 leaves 90% of the initial batch norm"],
        ),
        ({"batch_norm_momentum": 0.5}, []),
        ({"batch_norm_momentum": 0.99, "init": "imagenet"}, []),
        ({"batch_norm_momentum": 0.99, "epochs": 25}, []),
    ],
)
def test_statistics_that_keep_their_start(tmp_path, settings, messages):
    run = run_on(write(tmp_path, cat=12, dog=12), **{"epochs": 1, "batch_size": 2, **settings})
    network = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    assert run.steps == 10
    with told(*messages):
        check_statistics(run, network)
    network.trainable = False
    with told():
        check_statistics(run, network)


@pytest.mark.parametrize(
    ("truth", "predicted", "messages"),
    [
        ([0, 1, 2, 2], [0, 1, 2, 2], []),
        (
            [0, 1, 2, 2],
            [0, 2, 2, 2],
            [
                "In the best epoch, 1 of 3 classes have no correct prediction in validation: 'b'"
                " (0 of 1 images)."
            ],
        ),
        (
            [0, 0, 1, 2],
            [0, 0, 0, 0],
            [
                "In the best epoch, 2 of 3 classes have no correct prediction in validation: 'b'"
                " (0 of 1 images), 'c' (0 of 1 images)."
            ],
        ),
        ([0, 0, 1, 1], [0, 0, 1, 2], []),  # no image of c: nothing can be right
        (
            [0, 0, 0, 1, 2],
            [0, 1, 1, 1, 2],
            ["60.0%, is not above the share of the largest class, 'a' with 60.0%."],
        ),
    ],
)
def test_a_network_that_has_not_learned(truth, predicted, messages):
    scores = np.eye(3, dtype="float32")[predicted]
    with told(*messages):
        check_predictions(Predictions(scores, np.array(truth)), ["a", "b", "c"])


@pytest.mark.full
def test_a_run_warns_once_each(tmp_path):
    """No warm-up and a tiny rate: the network answers as it did at random."""
    folder = write(tmp_path / "images", train_cat=22, train_dog=2, val_cat=9, val_dog=1, test_cat=1)
    config = tiny_config(
        folder, epochs=1, batch_size=4, batch_norm_momentum=0.1, learning_rate=1e-9
    )
    with told(
        "has only 10 validation images (one is 10.0 points of accuracy) and 1 test images",
        "has 2 training images of 'dog' and 22 of 'cat', 1:11.",
        "has no test image of 'dog'.",
        "correct prediction in validation",
    ):
        training.train(config, tmp_path / "run")
    out = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert out["epochs"] == 1
