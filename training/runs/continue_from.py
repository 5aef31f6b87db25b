"""Settings of a new run that starts from another run's best model."""

import math
from pathlib import Path
from typing import Any

from keras_archs.arguments import called_as
from keras_archs.errors import InputError
from keras_archs.files import local_path

from ..settings.config import OPTIMIZER_SETTINGS, TrainConfig, override
from .run_folder import RunFolder

QAT_EPOCHS = 0.1
"""Epochs of quantisation-aware training, as a share of the first run's epochs."""
QAT_OPTIMIZER, QAT_RATE = "adamw", 0.05
"""Optimizer of quantisation-aware training, and its learning rate as a share of the optimizer's
default. The first run's rate does not apply: with batch norms, the scale of the weights does not
matter, and quantisation-aware training folds the batch norms."""


@called_as("training.continue_from('runs/first', qat=True)")
def continue_from(run: str | Path, **overrides: Any) -> TrainConfig:
    """Returns the settings of a run, changed by `overrides`, that start from its best model.

    `continue_from("runs/first", qat=True)` prepares quantisation-aware training for int8. By
    default, it takes a tenth of the epochs, with AdamW at a twentieth of its default learning rate,
    without warm-up and in float32.

    Args:
        run: the folder of a run.
        **overrides: fields of `TrainConfig`. `model_args` are merged with those of the run. A
            warm-up that is longer than the overriding `epochs` is shortened in proportion, with a
            warning.

    Raises:
        ValueError: the folder does not hold a run, the run is quantisation-aware and so has other
            layers, or an override is invalid.
    """
    folder = RunFolder(local_path(run))
    base = folder.read_settings().config
    if base.qat:
        raise InputError(
            f"{str(run)!r} was already trained with qat=True; continue from the run before it,"
            f" {base.init!r}."
        )
    if "init" in overrides:
        raise InputError(
            f"init={overrides['init']!r} cannot be combined with a run to continue from; give only"
            " one."
        )
    settings = base.model_dump()
    if overrides.get("qat"):
        settings["optimizer"] = QAT_OPTIMIZER
    if overrides.get("qat") or overrides.get("optimizer", base.optimizer) != base.optimizer:
        settings = {key: value for key, value in settings.items() if key not in OPTIMIZER_SETTINGS}
    settings["model_args"] = {key: arg for key, arg in base.model_args.items() if key != "weights"}
    settings["init"] = str(run)
    if overrides.get("qat"):
        changes = {key: overrides[key] for key in ("optimizer", "batch_size") if key in overrides}
        settings |= {
            "epochs": math.ceil(QAT_EPOCHS * base.epochs),
            "learning_rate": QAT_RATE * TrainConfig(**settings | changes).learning_rate,
            "warmup_epochs": 0,
            "precision": "float32",
            "progressive_from": None,
            "layer_decay": None,
        }
    return TrainConfig(**override(settings, overrides, f"the run in {str(run)!r}"))
