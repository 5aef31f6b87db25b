"""What the command `export` does: a file from a run, a .keras file or a name, checked and kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tflite_export
import training
from keras_archs.errors import InputError
from keras_archs.files import check_target
from keras_archs.registry import find_family
from tflite_export.calibration import evaluation_set
from tflite_export.debugging import CALIBRATED
from tflite_export.gate import bound_for
from tflite_export.preparing import image_shape
from tflite_export.sources import Source, open_source

_SHOWN = 20


def export(
    place: str,
    quantize: Any,
    *,
    out: Path | None = None,
    dataset: str | None = None,
    data_dir: Path | None = None,
    preprocessing: str | None = None,
    calibration_size: int = 300,
    calibration_seed: int = 0,
    test_images: int = 2000,
    overwrite: bool = False,
    debug: bool = False,
    **settings: Any,
) -> tflite_export.Conversion:
    """Writes a checked file, and its report beside it if there were images to check it on.

    Args:
        place: a run's folder, a .keras file or NAME:WEIGHTS.
        quantize: kind of the file.
        out: where it comes to; RUN/export/ if None.
        dataset: of training and test images, as for `open_dataset`; a run has its own.
        data_dir: where TFDS keeps its datasets.
        preprocessing: family whose preprocessing the network was trained with, or "none" for pixels
            of 0..255; for sources that do not say.
        calibration_size: images that ranges are measured on.
        calibration_seed: draws them.
        test_images: most of them that the file is tested on.
        overwrite: whether an earlier file may be replaced.
        debug: print which layers lose the most, also of a file that is refused.
        **settings: of `tflite_export.convert`.

    Raises:
        InputError: an argument is unfit.
        ParityError: the file is too far from the model; it is kept as NAME.rejected.tflite.
    """
    bound_for(quantize, settings.get("min_agreement"), settings.get("max_error"))
    if out is not None:
        check_target(out, overwrite)
    source = _source(place, preprocessing)
    target = out or _in_run(source, quantize)
    check_target(target, overwrite)
    images = _Images(source, dataset, data_dir)

    representative = None
    if quantize in CALIBRATED:
        representative = images.draw("calibration", calibration_size, calibration_seed)
