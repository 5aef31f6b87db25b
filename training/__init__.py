"""Training of image classifiers: data, one run from settings to pictures, runs read back."""

from training.config import TrainConfig
from training.continuing import continue_from
from training.data import ImageData, open_dataset
from training.fitting import resume, train
from training.recipes import load_recipe
from training.run import Run, evaluate, load_run, report
from training.stopping import TrainingStopped

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
