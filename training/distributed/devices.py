"""Distributed training with `tf.distribute` on several devices and machines.

`Model.fit` and `Model.evaluate` of Keras 3 fail with more than one worker: they average scalar
metrics over their first axis. Here, each replica runs Keras' `train_step`. The metrics are read
outside of the step, where TensorFlow sums their variables over the replicas.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from signal import Signals
from typing import Any

import keras
import tensorflow as tf

from keras_archs.errors import InputError

from ..runs.signals import SIGNALS, TrainingStopped
from .cluster import find_cluster
from .replicas import all_reduce, moving_statistics, sum_gradients_first

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""Errors of a collective operation when another worker has ended."""


@dataclass(frozen=True)
class Devices:
    """The devices that share the steps of a run.

    Attributes:
        strategy: TensorFlow's strategy. The default strategy means a single device.
        worker: index of this process among the workers.
        workers: number of processes. Only the first, the chief, writes to the run's folder.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    def check_batch(self, size: int, images: int | None = None) -> None:
        """Raises an InputError unless the devices can divide a batch of `size` evenly.

        A dataset of fewer than `size` images makes a batch of all its images.
        """
        images = size if images is None else images
        if min(size, images) % self.replicas:
            limit = f", but the dataset has only {images} training images" if images < size else ""
            raise InputError(
                f"batch_size must be a multiple of the {self.replicas} devices that share it, got"
                f" {size}{limit}."
            )

    @contextmanager
    def worker_folder(self, folder: Path) -> Iterator[Path]:
        """Yields the run's folder on the chief and a temporary copy on the other workers.

        All workers run the same code, and only the chief's files remain.

        Raises:
            TrainingStopped: another worker has ended.
        """
        with tempfile.TemporaryDirectory(prefix="keras-archs-") as temporary, self._collective():
            path = folder if self.is_chief else Path(temporary) / folder.name
            if not self.is_chief and folder.exists():
                shutil.copytree(folder, path, ignore=shutil.ignore_patterns("tensorboard"))
            self.agree()  # the chief writes only after all copies are made
            try:
                yield path
            except TrainingStopped as stop:
                message = str(stop).replace(str(path), str(folder))
                raise TrainingStopped(message, stop.exit_code) from stop
            self.agree()  # raises an error if another worker has ended

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise TrainingStopped(
                "Another worker has ended or cannot be reached. Start all workers again with"
                " --resume to resume from the last checkpoint."
                f" ({type(error).__name__}, see above)"
            ) from error

    def agree(
        self, received: Signals | None = None, due: bool = False
    ) -> tuple[Signals | None, bool]:
        """Decides for all workers what to do next. Each worker waits here for all others.

        Args:
            received: the stop signal that this process has received, if any.
            due: whether a checkpoint is due. Only the chief's value counts.

        Returns:
            a signal that any worker has received, and whether a checkpoint is due.
        """
        if self.workers == 1:
            return received, due
        votes = [*(number == received for number in SIGNALS), due and self.is_chief]
        sums = self.strategy.experimental_local_results(_sums(self.strategy, tf.stack(votes)))[0]
        *signals, due = sums.numpy() > 0
        agreed = (number for number, vote in zip(SIGNALS, signals, strict=True) if vote)
        return next(agreed, None), bool(due)

    def share(
        self,
        batches: Callable[[tuple[int, int]], tf.data.Dataset],
        batch_size: int,
        steps: int | None = None,
    ) -> Any:
        """Distributes batches to the replicas: each gets its part of a batch.

        Args:
            batches: makes the batches of worker i of n from `(i, n)`.
            batch_size: batch size of all replicas together.
            steps: if given, the number of batches. A replica without further images gets empty
                batches.
        """
        if self.replicas == 1:
            return batches((0, 1))

        def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
            dataset = batches((context.input_pipeline_id, context.num_input_pipelines))
            replicas = self.replicas // context.num_input_pipelines
            if replicas > 1:
                dataset = dataset.rebatch(batch_size // self.replicas, drop_remainder=steps is None)
            if steps is not None:
                dataset = pad_with_empty_batches(dataset, steps * replicas)
            return dataset

        return self.strategy.distribute_datasets_from_function(worker_batches)

    def prepare(self, model: keras.Model) -> None:
        """Sets `train_function` and `test_function` of a compiled and built model.

        For a single device, they are Keras' functions.
        """
        if self.replicas == 1:
            model.make_train_function()
            model.make_test_function()
            return
        statistics = moving_statistics(model)

        def train(batch: Any) -> None:
            model.train_step(batch)
            means = all_reduce("MEAN", [tf.convert_to_tensor(value) for value in statistics])
            for variable, mean in zip(statistics, means, strict=True):
                variable.assign(mean)

        def test(batch: Any) -> None:
            def test_batch() -> tf.Tensor:
                model.test_step(batch)
                return tf.constant(True)

            # The mean loss of an empty batch would be NaN.
            tf.cond(tf.size(batch[0]) > 0, test_batch, lambda: tf.constant(False))

        sum_gradients_first(model.optimizer)
        model.train_function = self._function(model, train)
        model.test_function = self._function(model, test)

    def _function(self, model: keras.Model, step: Callable[[Any], None]) -> Any:
        @tf.function(autograph=False)
        def function(iterator: Any) -> dict[str, tf.Tensor]:
            self.strategy.run(step, args=(next(iterator),))
            return model.get_metrics_result()

        return function


def open_devices(strategy: str) -> Devices:
    """Opens the devices for the setting `strategy`.

    With several workers, the call waits for all of them. It must come before all other TensorFlow
    operations.

    Raises:
        InputError: the devices or the cluster do not exist.
    """
    cluster = find_cluster() if strategy in {"auto", "multiworker"} else None
    if strategy == "auto":
        if cluster and len(cluster.addresses) > 1:
            strategy = "multiworker"
        elif "TPU_NAME" in os.environ:
            strategy = "tpu"
        else:
            gpus = tf.config.list_physical_devices("GPU")
            strategy = "mirrored" if len(gpus) > 1 else "none"
    if strategy == "none":
        return Devices()
    if strategy != "multiworker":
        return _local_devices(strategy)
    if not cluster:
        raise InputError(
            "strategy='multiworker' needs a list of workers: set TF_CONFIG in each worker, or start"
            " the workers with srun."
        )
    if len(cluster.addresses) == 1:
        return _local_devices("mirrored")
    os.environ["TF_CONFIG"] = cluster.tf_config()
    return Devices(_strategy(strategy), cluster.index, len(cluster.addresses))


def _local_devices(strategy: str) -> Devices:
    devices = Devices(_strategy(strategy))
    # With gradient accumulation, Keras' step fails under a strategy of a single replica.
    return devices if devices.replicas > 1 else Devices()


@cache  # a process can join its cluster only once
def _strategy(name: str) -> tf.distribute.Strategy:
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(f"strategy='tpu': no TPU found ({error}).") from error
        return tf.distribute.TPUStrategy(resolver)
    # Without GPUs, the logical devices of the CPU.
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )


@tf.function(autograph=False)
def _sums(strategy: tf.distribute.Strategy, votes: tf.Tensor) -> Any:
    return strategy.run(lambda: all_reduce("SUM", [tf.cast(votes, tf.int32)])[0])


def pad_with_empty_batches(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Appends empty batches to a dataset, so that it has `count` batches."""
    empty_batch = tf.nest.map_structure(
        lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), batches.element_spec
    )
    return batches.concatenate(tf.data.Dataset.from_tensors(empty_batch).repeat()).take(count)
