"""Monitors of a running training: console, TensorBoard and experiment trackers."""

from collections.abc import Collection

from ..evaluation.plots import draw_examples
from ..runs.run import Run
from .console import Console
from .examples import augmented_examples
from .monitor import Monitor, Monitors
from .speedometer import Speedometer
from .tensorboard import TensorBoard
from .tracking import TRACKERS, require_tracker

__all__ = ["Monitor", "make_monitors", "require_tracker"]


def make_monitors(run: Run, restarts: Collection[int] = (0,), *, quiet: bool = False) -> Monitors:
    """Makes the monitors for a run's settings.

    Args:
        run: the run.
        restarts: epochs whose first step compiles.
        quiet: whether to make no monitors.
    """
    if quiet:
        return Monitors()
    config, folder = run.settings.config, run.folder
    speed = Speedometer(config.batch_size, restarts)
    board = TensorBoard(
        folder.tensorboard,
        speed,
        examples=lambda: draw_examples(*augmented_examples(run)),
        confusion_matrix=folder.confusion_matrix,
    )
    monitors = [speed, Console(speed), board]
    if config.track != "none":
        files = (folder.curves, folder.confusion_matrix, folder.report)
        name, settings = folder.path.resolve().name, config.model_dump(mode="json")
        monitors.append(TRACKERS[config.track](name, settings, folder.tracking, files))
    return Monitors(*monitors)
