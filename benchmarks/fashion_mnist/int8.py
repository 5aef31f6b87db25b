"""Measures the accuracy of int8 files, after training with and without quantisation awareness."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import tflite_export
import training
from benchmarks.fashion_mnist.variants import Variant
from tflite_export.lowering.from_aware import to_int8
from tflite_export.verification.parity import keras_scores

ADAMW = {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.02}
"""For networks with squeeze-and-excitation and swish. With the recipe's SGD, some of these networks
get dead filters, and weights in the thousands after their batch norms are folded."""

NETWORKS = {
    "mobilenet-0.25": Variant("mobilenet", 64, {"alpha": 0.25}),
    "mobilenetv3large": Variant("mobilenetv3large", 64, other=ADAMW),
    "resnet18": Variant("resnet18", 32),
    "efficientnetb0": Variant("efficientnetb0", 48, other=ADAMW),
}
SEEDS = range(3)
QAT_EPOCHS = 1
ALWAYS_QAT = {"mobilenet-0.25"}
AIM = 0.005
"""Allowed loss of accuracy. A network that loses more is trained with quantisation awareness."""
_QAT_COLUMNS = ("epochs", "keras_top1", "int8_top1", "most_steps_off", "within_a_step")


def run(name: str, seed: int, dataset: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains and converts a network, with and without quantisation awareness. Returns its row.

    All files are tested on all test images. No bound is checked.
    """
    settings = NETWORKS[name].settings(dataset, epochs) | {"seed": seed}
    training.train(training.load_recipe("fast", **settings), out, overwrite=True)
    run = training.load_run(out)
    images, labels = run.arrays("test", len(run.data.splits["test"]))
    plain = _report(out, images, labels)
    row: dict[str, Any] = {
        "network": f"{name}, seed {seed}",
        "pixels": NETWORKS[name].image_size,
        "epochs": run.settings.config.epochs,
        "keras_top1": round(plain.keras_top1 or 0, 4),
        "int8_top1": round(plain.tflite_top1 or 0, 4),
        "int8_agreement": round(plain.agreement, 4),
        **{f"qat_{name}": "" for name in _QAT_COLUMNS},
    }
    if name not in ALWAYS_QAT and row["keras_top1"] - row["int8_top1"] < AIM:
        return row
    aware = training.continue_from(out, qat=True, epochs=QAT_EPOCHS)
    qat_out = out.with_name(f"{out.name}-qat")
    training.train(aware, qat_out, overwrite=True)
    report = _report(qat_out, images, labels)
    steps = _steps_off(qat_out, images)
    values = (
        QAT_EPOCHS,
        round(report.keras_top1 or 0, 4),
        round(report.tflite_top1 or 0, 4),
        int(steps.max()),
        round(float(np.mean(steps <= 1)), 4),
    )
    return row | {f"qat_{name}": value for name, value in zip(_QAT_COLUMNS, values, strict=True)}


def _report(folder: Path, images: np.ndarray, labels: np.ndarray) -> tflite_export.Report:
    conversion = tflite_export.convert(folder, "int8", test=images, labels=labels, min_agreement=0)
    assert conversion.report
    return conversion.report


def _steps_off(folder: Path, images: np.ndarray) -> np.ndarray:
    """Compares the logits of an int8 file with those of its quantisation-aware model.

    Returns:
        differences in int8 steps, integers [images, classes].
    """
    model = training.load_run(folder).model()
    # The scores of an exported file are probabilities, which hide most differences.
    logits = keras.Model(model.input, model.layers[-1].input)
    content = to_int8(logits)
    step, _ = Interpreter(model_content=content).get_output_details()[0]["quantization"]
    scores = tflite_export.Classifier(content).predict(images)
    return np.rint(np.abs(scores - keras_scores(logits, images)) / step)
