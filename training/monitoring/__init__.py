"""What a run shows while it goes on: on the console, in TensorBoard, in a tracker."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..plots import draw_examples
from .console import Console
from .examples import augmented_examples
from .monitor import Monitor, Monitors
from .speedometer import Speedometer
from .tensorboard import TensorBoard
from .tracking import TRACKERS, require_tracker

if TYPE_CHECKING:
    from ..run import Run

__all__ = ["Monitor", "monitors_of", "require_tracker"]


def monitors_of(run: Run, restarts: Collection[int] = (0,), *, quiet: bool = False) -> Monitors:
    """The monitors that a run's settings ask for; none of them if it is to be quiet.

    Args:
        restarts: epochs whose first step compiles.
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
