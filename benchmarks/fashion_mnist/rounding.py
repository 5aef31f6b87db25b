"""Quantisation-aware training: XNNPACK's rounding, and a plain straight-through estimator."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import training
from keras_archs.transforms.quantization import quantized_layers, xnnpack_rounding
from tflite_export import Classifier
from tflite_export.lowering.from_aware import to_int8
from tflite_export.verification.parity import keras_scores

EPOCHS = 1


def rows_of(
    name: str, folder: Path, dataset: str, count: int | None, out: Path
) -> Iterator[dict[str, Any]]:
    """Trains a finished run again in both ways. Yields a row for each.

    Args:
        name: of the network.
        folder: of the finished run.
        dataset: the training and test images.
        count: number of test images; all if None.
        out: folder for the runs.
    """
    for rounding in ("XNNPACK", "plain"):
        with _plain() if rounding == "plain" else nullcontext():
            config = training.continue_from(folder, qat=True, epochs=EPOCHS, dataset=dataset)
            run_folder = out / f"{name}-{rounding}"
            cpu = time.process_time()
            training.train(config, run_folder, overwrite=True)
            cpu = time.process_time() - cpu
            run = training.load_run(run_folder)
            images, labels = run.arrays("test", count or len(run.data.splits["test"]))
            model = run.model()
            # Probabilities would hide most differences.
            logits = keras.Model(model.input, model.layers[-1].input)
            expected = keras_scores(logits, images)
        content = to_int8(logits)
        (output,) = Interpreter(model_content=content).get_output_details()
        scores = Classifier(content).predict(images)
        steps = np.rint(np.abs(scores - expected) / output["quantization"][0])
        yield {
            "run": f"{name}, {rounding}",
            "qat_epochs": EPOCHS,
            "keras_top1": _share(expected.argmax(axis=1) == labels),
            "int8_top1": _share(scores.argmax(axis=1) == labels),
            "agreement": _share(scores.argmax(axis=1) == expected.argmax(axis=1)),
            "most_steps_off": int(steps.max()),
            "logits_equal": _share(steps == 0),
            "cpu_seconds": round(cpu),
        }


@contextmanager
def _plain() -> Iterator[None]:
    """Inside the block, layers compute in float32, and only `FakeQuantize` rounds their results."""
    with ExitStack() as patches:
        for module in (quantized_layers, xnnpack_rounding):
            patches.enter_context(mock.patch.object(module, "is_exporting", return_value=True))
        patches.enter_context(mock.patch.object(quantized_layers, "constants", nullcontext))
        yield


def _share(hits: Any) -> float:
    return round(float(np.mean(hits)), 4)
