"""Training of image classifiers: data, one run from settings to pictures, runs read back."""

from .config import TrainConfig
from .continuing import continue_from
from .data import ImageData, open_dataset
from .fitting import resume, train
from .recipes import load_recipe
from .run import Run, evaluate, load_run, report
from .stopping import TrainingStopped

__all__ = [
    "ImageData",
    "Run",
    "TrainConfig",
    "TrainingStopped",
    "continue_from",
    "evaluate",
    "load_recipe",
    "load_run",
    "open_dataset",
    "report",
    "resume",
    "train",
]
