"""Measures time to accuracy: recipe `fast` against `fit` on the network of keras.applications."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import training
from benchmarks.fashion_mnist import data

TARGETS = (0.93, 0.94)
ALPHA, SIZE, BATCH = 0.5, 64, 64
GIVE_UP = 3.25
"""Time limit of the peer, as a multiple of our time to the first target."""


@dataclass(frozen=True)
class Epoch:
    """The test accuracy at the end of an epoch, and the seconds since the start."""

    seconds: float
    accuracy: float


def train_ours(dataset: str, epochs: int | None, out: Path) -> list[Epoch]:
    """Trains with the recipe `fast`. Its validation images are the test images.

    The recipe has a fixed number of epochs, so the test images do not select an epoch.
    """
    changes = {} if epochs is None else {"epochs": epochs}
    config = training.load_recipe(
        "fast",
        model="mobilenet",
        model_args={"alpha": ALPHA},
        image_size=SIZE,
        dataset=dataset,
        **changes,
    )
    start = time.time()
    training.train(config, out, overwrite=True)
    folder = training.load_run(out).folder
    events = tf.io.gfile.glob(f"{folder.tensorboard}/validation/*")
    times = [
        event.wall_time
        for record in tf.data.TFRecordDataset(events).as_numpy_iterator()
        for event in [tf.compat.v1.Event.FromString(record)]
        for value in event.summary.value
        if value.tag == "epoch_accuracy"
    ]
    return [
        Epoch(end - start, row["val_accuracy"])
        for end, row in zip(sorted(times), folder.history(), strict=True)
    ]


def train_peer(source: Path, count: int | None, epochs: int, seconds: float) -> list[Epoch]:
    """Trains with plain `fit`, Adam and defaults, to the last target or for at most `seconds`."""
    start = time.time()
    train, test = (_arrays(source, split, count) for split in ("train", "test"))
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(
        input_shape=(SIZE, SIZE, 3), alpha=ALPHA, weights=None, classes=10
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history: list[Epoch] = []

    def end(_epoch: int, logs: dict[str, float]) -> None:
        history.append(Epoch(time.time() - start, logs["val_accuracy"]))
        if logs["val_accuracy"] >= TARGETS[-1] or history[-1].seconds > seconds:
            model.stop_training = True

    model.fit(
        *train,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=test,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end)],
        verbose=2,
    )
    return history


def time_to(target: float, epochs: list[Epoch]) -> float | None:
    """The seconds to the end of the first epoch with at least this accuracy."""
    return next((epoch.seconds for epoch in epochs if epoch.accuracy >= target), None)


def _arrays(source: Path, split: str, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    images, labels = data.read(source, split, count)
    rgb = np.repeat(images[..., None], 3, axis=-1)
    resize: Callable[[np.ndarray], np.ndarray] = lambda part: tf.image.resize(  # noqa: E731
        part, (SIZE, SIZE), antialias=True
    ).numpy()
    resized = np.concatenate([resize(part) for part in np.array_split(rgb, 20)])
    return keras.applications.mobilenet.preprocess_input(resized), labels
