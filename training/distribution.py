"""Training on several devices and machines: `tf.distribute` under the loop's own step.

`Model.fit` and `Model.evaluate` of Keras 3 fail with more than one worker: they take a mean over
the first axis of metrics that are scalars. Here each replica takes Keras' `train_step`, and metrics
are read outside of it, where their variables are summed over the replicas.
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

from .cluster import find_cluster
from .replicas import all_reduce, moving_statistics, sum_gradients_first
from .stopping import SIGNALS, TrainingStopped

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""What a collective operation raises when one of those who take part is gone."""


@dataclass(frozen=True)
class Devices:
    """The devices that share the steps of a run.

    Attributes:
        strategy: TensorFlow's; the default one stands for a single device.
        worker: this process' place among the workers.
        workers: processes; the first of them, the chief, alone writes to the run's folder.
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
        """Raises an InputError unless a batch, of so many images at most, can be divided evenly."""
        images = size if images is None else images
        if min(size, images) % self.replicas:
            there = f", but only {images} training images make a batch" if images < size else ""
            raise InputError(
                f"batch_size must be a multiple of the {self.replicas} devices that share it, got"
                f" {size}{there}."
            )

    @contextmanager
    def own(self, folder: Path) -> Iterator[Path]:
        """The run's folder for the chief; for each other worker a copy, which goes afterwards.

        So all workers do the same things, and none but the chief's are seen.

        Raises:
            TrainingStopped: another worker has ended.
        """
        with tempfile.TemporaryDirectory(prefix="keras-archs-") as temporary, self._together():
            mine = folder if self.is_chief else Path(temporary) / folder.name
            if not self.is_chief and folder.exists():
                shutil.copytree(folder, mine, ignore=shutil.ignore_patterns("tensorboard"))
            self.agree()  # from here on the chief may write
            try:
                yield mine
            except TrainingStopped as stop:
                message = str(stop).replace(str(mine), str(folder))
                raise TrainingStopped(message, stop.exit_code) from stop
            self.agree()  # a worker that is gone would be missed

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise TrainingStopped(
                "Another worker has ended or cannot be reached. Start all workers again, with"
                f" --resume, to go on from the last checkpoint. ({type(error).__name__}, see above)"
            ) from error

    def agree(self, asked: Signals | None = None, due: bool = False) -> tuple[Signals | None, bool]:
        """What all workers do next; each waits here for all others.

        Args:
            asked: the signal that this process has received, if any.
            due: whether it is time for a checkpoint, of which the chief's word counts.

        Returns:
            A signal that any worker has received, and whether it is time.
        """
        if self.workers == 1:
            return asked, due
        votes = [*(number == asked for number in SIGNALS), due and self.is_chief]
        sums = self.strategy.experimental_local_results(_sums(self.strategy, tf.stack(votes)))[0]
        *signals, due = sums.numpy() > 0
        received = (number for number, vote in zip(SIGNALS, signals, strict=True) if vote)
        return next(received, None), bool(due)

    def share(
        self,
        batches: Callable[[tuple[int, int]], tf.data.Dataset],
        batch_size: int,
        steps: int | None = None,
    ) -> Any:
        """Batches of which each replica gets its part.

        Args:
            batches: makes those of worker i of n, given `(i, n)`.
            batch_size: of all replicas together.
            steps: if given, as many; a replica that has no images left gets batches of none.
        """
        if self.replicas == 1:
            return batches((0, 1))

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            mine = batches((context.input_pipeline_id, context.num_input_pipelines))
            replicas = self.replicas // context.num_input_pipelines
            if replicas > 1:
                mine = mine.rebatch(batch_size // self.replicas, drop_remainder=steps is None)
            if steps is not None:
                mine = fill_up(mine, steps * replicas)
            return mine

        return self.strategy.distribute_datasets_from_function(of_worker)

    def prepare(self, model: keras.Model) -> None:
        """Gives a compiled and built model the functions that take a step in training and testing.

        They are Keras' own for one device.
        """
        if self.replicas == 1:
            model.make_train_function()
            model.make_test_function()
            return
        statistics = moving_statistics(model)

        def train(batch: Any) -> None:
            model.train_step(batch)
            means = all_reduce("MEAN", [tf.convert_to_tensor(each) for each in statistics])
            for variable, mean in zip(statistics, means, strict=True):
                variable.assign(mean)

        def test(batch: Any) -> None:
            def some() -> tf.Tensor:
                model.test_step(batch)
                return tf.constant(True)

            # The mean loss of no images would be NaN.
            tf.cond(tf.size(batch[0]) > 0, some, lambda: tf.constant(False))

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
    """The devices that a `strategy` of the settings stands for.

    With several workers this waits for all of them, and nothing of TensorFlow may have run before.

    Raises:
        InputError: what the strategy asks for is not there.
    """
    cluster = find_cluster() if strategy in {"auto", "multiworker"} else None
    if strategy == "auto":
        if cluster and len(cluster.addresses) > 1:
            strategy = "multiworker"
        elif "TPU_NAME" in os.environ:
            strategy = "tpu"
        else:
            several = len(tf.config.list_physical_devices("GPU")) > 1
            strategy = "mirrored" if several else "none"
    if strategy == "none":
        return Devices()
    if strategy != "multiworker":
        return _of_this_process(strategy)
    if not cluster:
        raise InputError(
            "strategy='multiworker' needs to know the workers: set TF_CONFIG in each, or start them"
            " with srun."
        )
    if len(cluster.addresses) == 1:
        return _of_this_process("mirrored")
    os.environ["TF_CONFIG"] = cluster.tf_config()
    return Devices(_strategy(strategy), cluster.index, len(cluster.addresses))


def _of_this_process(strategy: str) -> Devices:
    devices = Devices(_strategy(strategy))
    # Keras' own step fails under a strategy of one replica if it accumulates gradients.
    return devices if devices.replicas > 1 else Devices()


@cache  # a process can join its cluster once
def _strategy(name: str) -> tf.distribute.Strategy:
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(f"strategy='tpu': no TPU is found ({error}).") from error
        return tf.distribute.TPUStrategy(resolver)
    # Without GPUs the processor, divided into logical devices or not.
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )


@tf.function(autograph=False)
def _sums(strategy: tf.distribute.Strategy, votes: tf.Tensor) -> Any:
    return strategy.run(lambda: all_reduce("SUM", [tf.cast(votes, tf.int32)])[0])


def fill_up(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """So many batches; those that are missing have no images."""
    nothing = tf.nest.map_structure(
        lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), batches.element_spec
    )
    return batches.concatenate(tf.data.Dataset.from_tensors(nothing).repeat()).take(count)
