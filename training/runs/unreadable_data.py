"""Stops a run whose images have disappeared or become damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..data.decode.decode import readable
from .run_folder import RunFolder
from .signals import TrainingStopped


@contextmanager
def stop_if_unreadable(
    dataset: str, folder: RunFolder | None, again: str = "--resume"
) -> Iterator[None]:
    """Stops the run in a folder if its dataset can no longer be read.

    Args:
        dataset: name of the dataset.
        folder: folder of the run, or None before the run has written to it.
        again: how to resume the run.

    Raises:
        TrainingStopped: an iterator of `tf.data` failed.
    """

    def stopped(message: str) -> TrainingStopped:
        newest = folder.newest_checkpoint() if folder else None
        hint = (
            f" When it is readable again, {again} resumes from {str(newest)!r}." if newest else ""
        )
        return TrainingStopped(message + hint)

    with readable(dataset, stopped):
        yield
