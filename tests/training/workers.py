"""Runs of several real processes on the loopback."""

import json
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.training.runs import finish, output, start
from training import trainer as fitting
from training.model import build as building
from training.monitoring.monitor import Monitor, Monitors
from training.runs.run_folder import Settings


def start_workers(
    out: Path, count: int, *arguments: Any, before: Callable[[], None] | None = None
) -> list[Any]:
    """Starts all workers of a job; each leaves its last weights in `<out>.<worker>.npz`."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    cluster = {"worker": ["{}:{}".format(*each.getsockname()) for each in sockets]}
    for each in sockets:
        each.close()
    return [
        start(
            out,
            *arguments,
            before=partial(
                _enter,
                json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
                weights_of(out, index),
                before,
            ),
        )
        for index in range(count)
    ]


def weights_of(out: Path, worker: int) -> Path:
    return out.with_suffix(f".{worker}.npz")


def run_workers(out: Path, count: int, *arguments: Any, **before: Any) -> None:
    workers = start_workers(out, count, *arguments, **before)
    assert [finish(worker) for worker in workers] == [0] * count, output(out).read_text()[-5000:]


def assert_equal_weights(out: Path, count: int) -> None:
    chief, *others = (np.load(weights_of(out, worker)) for worker in range(count))
    for other in others:
        for name in chief.files:
            np.testing.assert_array_equal(chief[name], other[name])


def without_batch_norm() -> None:
    """Whatever the settings say, a network whose images have nothing to do with each other."""
    building.build_network = _small


def with_batch_norm() -> None:
    building.build_network = partial(_small, batch_norm=True)


def with_dropout() -> None:
    building.build_network = partial(_small, batch_norm=True, dropout=0.5)


def _small(
    settings: Settings, *, batch_norm: bool = False, dropout: float = 0.0, **_: Any
) -> keras.Model:
    keras.utils.set_random_seed(settings.config.seed)
    inputs = x = keras.Input(settings.input_shape)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
        x = keras.layers.BatchNormalization()(x) if batch_norm else x
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    classes = len(settings.class_names)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


def _enter(tf_config: str, weights: Path, before: Callable[[], None] | None) -> None:
    if before:
        before()
    os.environ["TF_CONFIG"] = tf_config
    _Witness.path = weights
    real = fitting.make_monitors
    fitting.make_monitors = lambda *given, **options: Monitors(
        *real(*given, **options).callbacks, _Witness()
    )


class _Witness(Monitor):
    path: Path
    model: keras.Model

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        np.savez(self.path, *self.model.get_weights())
