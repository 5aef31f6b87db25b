"""What int8 costs in accuracy, behind training and with training for it."""

from pathlib import Path
from typing import Any

import tflite_export
import training
from docs.fashion_mnist.variants import Variant

NETWORKS = {
    "mobilenet-0.25": Variant("mobilenet", 64, {"alpha": 0.25}),
    "mobilenetv3large": Variant("mobilenetv3large", 64),
    "resnet18": Variant("resnet18", 32),
    "efficientnetb0": Variant("efficientnetb0", 48),
}
SEEDS = range(3)
QAT_EPOCHS = 1
ALWAYS_QAT = {"mobilenet-0.25"}
AIM = 0.005
"""Accuracy that int8 may cost; a network that loses more is trained for it."""


def run(name: str, seed: int, dataset: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains a network, converts it, trains it for int8 and converts that; the row of it.

    All files are asked for all test images, and none is held to a bound.
    """
    settings = NETWORKS[name].settings(dataset, epochs) | {"seed": seed}
    training.train(training.load_recipe("fast", **settings), out, overwrite=True)
    plain = _report(out)
    row: dict[str, Any] = {
        "network": f"{name}, seed {seed}",
        "pixels": NETWORKS[name].image_size,
        "epochs": training.load_run(out).settings.config.epochs,
        "keras_top1": round(plain.keras_top1 or 0, 4),
        "int8_top1": round(plain.tflite_top1 or 0, 4),
        "int8_agreement": round(plain.agreement, 4),
        **dict.fromkeys(("qat_epochs", "qat_keras_top1", "qat_int8_top1"), ""),
    }
    if name not in ALWAYS_QAT and row["keras_top1"] - row["int8_top1"] < AIM:
        return row
    aware = training.continue_from(out, qat=True, epochs=QAT_EPOCHS)
    training.train(aware, out.with_name(f"{out.name}-qat"), overwrite=True)
    trained_for_it = _report(out.with_name(f"{out.name}-qat"))
    return row | {
        "qat_epochs": QAT_EPOCHS,
        "qat_keras_top1": round(trained_for_it.keras_top1 or 0, 4),
        "qat_int8_top1": round(trained_for_it.tflite_top1 or 0, 4),
    }


def _report(folder: Path) -> tflite_export.Report:
    run = training.load_run(folder)
    images, labels = run.arrays("test", len(run.data.splits["test"]))
    conversion = tflite_export.convert(folder, "int8", test=images, labels=labels, min_agreement=0)
    assert conversion.report
    return conversion.report
