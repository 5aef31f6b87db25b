"""Trains image classifiers: data, settings, runs and their evaluation."""

from .data import ImageData, open_dataset
from .evaluation.evaluate import evaluate, report
from .runs.continue_from import continue_from
from .runs.run import Run, load_run
from .runs.signals import TrainingStopped
from .settings.config import TrainConfig
from .settings.recipes import load_recipe
from .trainer import resume, train

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
