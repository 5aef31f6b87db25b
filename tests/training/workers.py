"""Runs of several real processes on the loopback."""

import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.training.runs import finish, output, start


def start_workers(out: Path, count: int, *arguments: Any) -> list[Any]:
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
            ),
        )
        for index in range(count)
    ]


def weights_of(out: Path, worker: int) -> Path:
    return out.with_suffix(f".{worker}.npz")


def run_workers(out: Path, count: int, *arguments: Any) -> None:
    workers = start_workers(out, count, *arguments)
    assert [finish(worker) for worker in workers] == [0] * count, output(out).read_text()[-5000:]


def assert_equal_weights(out: Path, count: int) -> None:
    chief, *others = (np.load(weights_of(out, worker)) for worker in range(count))
    for other in others:
        for name in chief.files:
            np.testing.assert_array_equal(chief[name], other[name])


def _enter(tf_config: str, weights: Path) -> None:
    os.environ["TF_CONFIG"] = tf_config
    _Witness.path = weights
    keras.callbacks.TensorBoard = _Witness


class _Witness(keras.callbacks.TensorBoard):
    path: Path
    model: keras.Model

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        np.savez(self.path, *self.model.get_weights())
