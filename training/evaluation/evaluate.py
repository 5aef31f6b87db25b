"""Evaluates a run on its test images and writes its report."""

from pathlib import Path
from typing import Any

import keras

import keras_archs
from keras_archs.arguments import called_as
from keras_archs.files import check_target, local_path

from ..data.decode.decode import readable
from ..runs.run import Run, open_run
from ..runs.run_folder import RunFolder
from .html_report import write_report
from .metrics import Metrics, Predictions, measure, predict
from .plots import plot_confusion_matrix


@called_as("training.evaluate(training.load_run('runs/first'))")
def evaluate(run: Run) -> dict[str, Any]:
    """Evaluates the best model on the test images and draws its confusion matrix.

    Returns:
        `test_top1` and `test_top5` (shares of the images), `test_loss` (cross-entropy without
        label smoothing; with loss="binary", the term of the true class), `test_images`, `recall`,
        `precision`, `f1` and `support` of each class, `confusion_matrix` (true classes as rows),
        and the model's `parameters` and `multiply_adds`.

    Raises:
        ValueError: the test images can no longer be read.
    """
    with readable(run.settings.config.dataset):
        return Metrics(evaluate_model(run, run.model())[0])


@called_as("training.report('runs/first')")
def report(out: str | Path) -> Path:
    """Writes report.html of a finished run again. Training also writes it.

    The report is a single file for any browser, without scripts and external files. It shows
    headline metrics, curves, classes, confusions, the worst mistakes as pictures, settings and
    machine.

    Returns:
        the path of the report.

    Raises:
        ValueError: the folder does not hold a finished run or cannot be written, or the dataset
            can no longer be read.
    """
    folder = RunFolder(local_path(out))
    settings, metrics, model = folder.read_settings(), folder.read_metrics(), folder.load_best()
    check_target(folder.report, overwrite=True)
    run = open_run(folder, settings)
    with readable(settings.config.dataset):
        write_report(run, predict(run, model), metrics)
    return folder.report


def evaluate_model(run: Run, model: keras.Model) -> tuple[dict[str, Any], Predictions]:
    """Returns the metrics of `evaluate` for a run's best model, and its predictions."""
    names = run.settings.class_names
    predictions = predict(run, model)
    test_metrics = measure(predictions, names)
    title = f"{model.name} on {run.settings.config.dataset}: top-1 {test_metrics['test_top1']:.1%}"
    plot_confusion_matrix(predictions.confusion_matrix(), names, title, run.folder.confusion_matrix)
    cost = keras_archs.profile(model)
    metrics = {
        "model": model.name,
        "dataset": run.settings.config.dataset,
        **test_metrics,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
    }
    return metrics, predictions
