"""Settings of a run that goes on where another one has ended."""

import math
from pathlib import Path
from typing import Any

from keras_archs.errors import InputError
from keras_archs.files import local_path

from .calling import called_as
from .config import OF_OPTIMIZER, TrainConfig, overridden
from .run_folder import RunFolder

QAT_EPOCHS = 0.1
"""Epochs of quantisation-aware training, as a share of those before it."""
QAT_OPTIMIZER, QAT_RATE = "adamw", 0.05
"""Its optimizer, and its learning rate as a share of that optimizer's own. The rate of a network
with batch norms, to which its scale is of no matter, says nothing once they are folded."""


@called_as("training.continue_from('runs/first', qat=True)")
def continue_from(run: str | Path, **overrides: Any) -> TrainConfig:
    """The settings of a run, with its best model to start from, and over them those given here.

    `continue_from("runs/first", qat=True)` trains it for int8, by default for a tenth of the
    epochs, with AdamW at a twentieth of its usual learning rate, without warm-up and in float32.

    Args:
        run: a run's folder.
        **overrides: fields of `TrainConfig`; `model_args` are added to the run's. A warm-up of the
            run that is longer than the `epochs` given is shortened in proportion, with a warning.

    Raises:
        ValueError: the folder holds no run, or one that was trained for int8, whose layers are
            others; or an override is wrong.
    """
    folder = RunFolder(local_path(run))
    base = folder.read_settings().config
    if base.qat:
        raise InputError(
            f"{str(run)!r} was trained for int8 already; go on from the run before, {base.init!r}."
        )
    if "init" in overrides:
        raise InputError(f"init={overrides['init']!r} cannot go with a run to continue from.")
    own = base.model_dump()
    if overrides.get("qat"):
        own["optimizer"] = QAT_OPTIMIZER
    if overrides.get("qat") or overrides.get("optimizer", base.optimizer) != base.optimizer:
        own = {name: value for name, value in own.items() if name not in OF_OPTIMIZER}
    own["model_args"] = {key: arg for key, arg in base.model_args.items() if key != "weights"}
    own["init"] = str(run)
    if overrides.get("qat"):
        changes = {key: overrides[key] for key in ("optimizer", "batch_size") if key in overrides}
        own |= {
            "epochs": math.ceil(QAT_EPOCHS * base.epochs),
            "learning_rate": QAT_RATE * TrainConfig(**own | changes).learning_rate,
            "warmup_epochs": 0,
            "precision": "float32",
            "progressive_from": None,
            "layer_decay": None,
        }
    return TrainConfig(**overridden(own, overrides, f"the run in {str(run)!r}"))
