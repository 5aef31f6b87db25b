"""The end of a run whose images have gone or been damaged since it began."""

from collections.abc import Iterator
from contextlib import contextmanager

from .data.encoded import readable
from .run_folder import RunFolder
from .stopping import TrainingStopped


@contextmanager
def reading(dataset: str, folder: RunFolder | None, again: str = "--resume") -> Iterator[None]:
    """Ends the run in a folder that cannot read its dataset any more, whatever has read it.

    Args:
        folder: None while nothing of the run is in it.
        again: what goes on with the run.

    Raises:
        TrainingStopped: an iterator of `tf.data` has failed.
    """

    def stopped(said: str) -> TrainingStopped:
        newest = folder.newest_checkpoint() if folder else None
        rest = f" Once it can, {again} goes on from {str(newest)!r}." if newest else ""
        return TrainingStopped(said + rest)

    with readable(dataset, stopped):
        yield
