"""Converts a Keras model to a TFLite file and checks the file against the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_archs.analysis.classifier import image_shape, probability_activation
from keras_archs.analysis.real_images import check_real
from keras_archs.display.formatting import byte_size, html_table
from keras_archs.display.quiet import quiet_in_notebook
from keras_archs.errors import InputError
from keras_archs.files import local_path, write_target
from keras_archs.preprocessing import PIXELS
from keras_archs.transforms.quantization.quantize_aware import is_quantize_aware

from .calibration import as_seen, calibration_set, evaluation_set
from .lowering.checks import check_model, check_representative
from .lowering.lower import lower
from .lowering.prepare import unfolded
from .runtime.images import as_batch
from .runtime.metadata import Metadata
from .settings import (
    CALIBRATED,
    ExportSettings,
    Io,
    Quantize,
    Scores,
)
from .sources import Source, open_source
from .stand_ins import COUNT, stand_ins
from .tflite_file.graph import Graph
from .tflite_file.metadata_writer import attach
from .tflite_file.serialize import pack, unpack
from .verification.gate import bound_for, check_stand_in, fewest, rejected
from .verification.layer_errors import layer_losses
from .verification.parity import Parity, as_labels, keras_scores
from .verification.report import Report


@dataclass(frozen=True)
class Conversion:
    """A TFLite file in memory.

    Attributes:
        quantize: one of `KINDS`.
        content: the bytes of the file.
        kept_float: names of the layers that were kept in float.
        report: comparison of the file with its Keras model; None without test images.
        stand_in: comparison on substitutes for test images: the first `representative` images or
            generated ones. None if there is a report.
    """

    quantize: Quantize
    content: bytes
    kept_float: tuple[str, ...] = ()
    report: Report | None = None
    stand_in: Parity | None = None

    def __repr__(self) -> str:
        kept = f", {len(self.kept_float)} layers kept in float" if self.kept_float else ""
        figures = self.report or f"{byte_size(len(self.content))}, {self._tested()}"
        return f"<Conversion to {self.quantize}{kept}: {figures}>"

    def _repr_html_(self) -> str:
        """Returns the table that a notebook shows."""
        if self.report:
            return self.report._repr_html_()
        row = [self.quantize, byte_size(len(self.content)), ", ".join(self.kept_float)]
        return html_table(["quantize", "size", "kept in float"], [row], self._tested())

    def _tested(self) -> str:
        """Returns what a file without a report was tested on, in words."""
        if self.stand_in is None:
            return "not tested"
        return f"compared with Keras on {self.stand_in.images} images (no test images)"

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the file, completely or not at all, and returns its path.

        Raises:
            InputError: the folder is missing or cannot be written to, or `path` exists and
                `overwrite` is False.
        """
        path = local_path(path)
        write_target(path, self.content, overwrite=overwrite)
        return path


@quiet_in_notebook()
def convert(
    source: keras.Model | str | Path | Source,
    quantize: Quantize = "none",
    *,
    representative: Any = None,
    test: Any = None,
    labels: Any = None,
    keep_float: Sequence[str] = (),
    auto: bool = False,
    min_agreement: float | None = None,
    max_error: float | None = None,
    io: Io | None = None,
    batch: Literal[1] | None = 1,
    scores: Scores = "model",
    pixels: bool = False,
    threads: int = 1,
    profile: bool = False,
) -> Conversion:
    """Converts an image classifier to TFLite and compares the file with the model.

        conversion = tflite_export.convert(
            model, "int8", representative=images, test=test_images, labels=test_labels, auto=True
        )
        conversion.save("model.tflite")

    The file contains the preprocessing and the class names if the source defines them, see
    `Metadata`. A run, a network of the registry and a `Source` define them.

    Args:
        source: one of:
            - a functional Keras model. It has one input [n, height, width, channels] with fixed
              sizes, and one output [n, classes], or [n, 1] for two classes. Its precision may be
              any. The model is not changed.
            - the path of a .keras file, or the folder of a run.
            - NAME:WEIGHTS, such as "mobilenet:imagenet".
            - a `Source`.
        quantize: one of `KINDS`, see `lower`.
        representative: at least 50 images to measure the activation ranges on, for "int8" and
            "int16x8" only. Floats [n, height, width, channels], preprocessed as in training, in an
            array, a tensor or a list. Pixels, uint8, are allowed if the source defines its
            preprocessing. None uses `calibration_set(run)` for a run.
        test: images to compare the file on, in the same form. None uses 2,000 test images of a run
            with their labels. Without test images the file is compared on `representative` or on
            generated images, and only `Parity.deviation` has a bound.
        labels: the classes of `test`, integers [n]. Without labels the report has no top-1.
        keep_float: names of layers to keep in float.
        auto: whether to keep more layers in float, as few as the bound needs, the worst first.
        min_agreement: smallest fraction of the test images for which model and file predict the
            same class. None uses `gate.BOUNDS`.
        max_error: largest difference between two scores, as a share of the range of the model's
            scores. None uses `gate.BOUNDS`.
        io: type of the input and the output of an "int8" file: "int8", "uint8" or "float32". None
            means "int8".
        batch: batch size of the file: 1, or None for any.
        scores: output of the file: "model" for the output of the model, "logits" or
            "probabilities".
        pixels: whether the file takes pixels of 0..255 and preprocesses them itself.
        threads: threads of the interpreter for the latency.
        profile: whether the report has the time of each operator and the peak of the machine.

    Raises:
        InputError: an argument is not allowed, the model is not such a classifier, or the images
            are noise or not preprocessed. The model does not convert; `__cause__` then holds the
            complete error of TensorFlow. An operation has no integer version for "int8". LiteRT
            cannot open the file.
        ParityError: the file is too far from the model, see `gate.Bound`. The error has the file.
        NotFiniteError: the model or the file returns NaN or infinity. It is a `ParityError`.
    """
    settings = ExportSettings(
        quantize=quantize,
        auto=auto,
        keep_float=keep_float,
        min_agreement=min_agreement,
        max_error=max_error,
        io=io,
        batch=batch,
        scores=scores,
        pixels=pixels,
        threads=threads,
        profile=profile,
    )
    opened_source = source if isinstance(source, Source) else open_source(source)
    check_source(opened_source, settings)
    # The images of a run may have been deleted. They are read only if no others are passed.
    if (
        representative is None
        and needs_representative(opened_source, settings)
        and opened_source.run
    ):
        representative = calibration_set(opened_source.run)
    if test is None and labels is None and opened_source.run:
        test, labels = evaluation_set(opened_source.run, settings.test_images)
    return convert_source(opened_source, settings, representative, test, labels)


def check_source(source: Source, settings: ExportSettings) -> None:
    """Checks that a source can be converted with these settings.

    Raises:
        InputError: it cannot.
    """
    if settings.pixels and source.preprocessing is None:
        raise InputError(
            "pixels=True (--pixels) needs a source with known preprocessing. Set it with"
            " preprocessing= (--preprocessing)."
        )
    check_model(source.model, settings, source.preprocessing if settings.pixels else None)


def needs_representative(source: Source, settings: ExportSettings) -> bool:
    """Returns whether the conversion measures activation ranges on representative images."""
    return settings.quantize in CALIBRATED and not is_quantize_aware(source.model)


def convert_source(
    source: Source, settings: ExportSettings, representative: Any, test: Any, labels: Any
) -> Conversion:
    """Converts a source after `check_source`. `convert` describes the images and the errors."""
    model, inside = source.model, source.preprocessing if settings.pixels else None
    bound = bound_for(settings)
    representative = _checked_images(source, "representative", representative)
    check_representative(model, settings, representative)
    test = _checked_images(source, "test", test)
    if test is None:
        _check_untested(settings, labels)
    elif labels is not None:
        labels = as_labels(labels, len(test), model.outputs[0].shape[-1])

    def make(keep_float: Sequence[str]) -> Conversion:
        content = lower(
            model,
            replace(settings, keep_float=tuple(keep_float)),
            representative=representative,
            preprocessing=inside,
        )
        content = as_written(content, source, settings.quantize, pixels=settings.pixels)
        return Conversion(settings.quantize, content, tuple(keep_float))

    images = _substitutes(source, representative) if test is None else test
    expected = keras_scores(unfolded(model, settings.scores), images)
    file_images = as_seen(images, inside)
    conversion = make(settings.keep_float)
    if test is None:
        stand_in = Parity.measure(conversion.content, file_images, None, expected)
        check_stand_in(conversion.content, settings.quantize, stand_in)
        return replace(conversion, stand_in=stand_in)

    def compare(conversion: Conversion) -> tuple[Conversion, Parity]:
        parity = Parity.measure(conversion.content, file_images, labels, expected, settings.threads)
        return conversion, parity

    conversion, parity = compare(conversion)
    whole_bytes = None
    if settings.auto or settings.keep_float:
        whole_bytes = len((make(()) if settings.keep_float else conversion).content)
    if settings.auto and bound.broken_by(parity):
        losses = layer_losses(model, settings, conversion.content, test, inside)
        conversion, parity = fewest(
            lambda layers: compare(make([*settings.keep_float, *layers])),
            [loss.layer for loss in losses][:-1],  # at least one layer is quantized
            lambda candidate: not bound.broken_by(candidate[1]),
        )
    report = Report.for_file(
        conversion,
        parity,
        file_images[0],
        threads=settings.threads,
        whole_bytes=whole_bytes,
        profile=settings.profile,
    )
    if bound.broken_by(report):
        raise rejected(conversion.content, report, bound)
    return replace(conversion, report=report)


def _check_untested(settings: ExportSettings, labels: Any) -> None:
    """Rejects settings that have no effect without test images."""
    values = {
        "labels": labels,
        "auto": settings.auto or None,
        "min_agreement": settings.min_agreement,
        "max_error": settings.max_error,
        "profile": settings.profile or None,
    }
    for name, value in values.items():
        if value is not None:
            raise InputError(f"{name} needs images to test the file on. Pass test= (--dataset).")


def _substitutes(source: Source, representative: np.ndarray | None) -> np.ndarray:
    """Returns substitutes for test images.

    Representative images come first: a calibrated file is accurate only for images that are like
    the ones its ranges were measured on.
    """
    if representative is not None:
        return representative[:COUNT]
    return stand_ins(image_shape(source.model), source.preprocessing)


def as_written(
    content: bytes, source: Source, quantize: Quantize, *, pixels: bool = False
) -> bytes:
    """Returns the final bytes of a file, with metadata if the source defines its preprocessing."""
    if source.preprocessing is None:
        return pack(unpack(content))
    outside = PIXELS if pixels else source.preprocessing
    metadata = Metadata(
        class_names=source.class_names,
        mean=outside.mean,
        scale=outside.scale,
        bgr=outside.bgr,
        image_shape=image_shape(source.model),
        quantize=quantize,
        probabilities=Graph.read(content).gives_probabilities(),
        activation=probability_activation(source.model),
        preprocessing_inside=outside == PIXELS,
        crop=source.crop,
        versions={name: version(name) for name in ("keras-archs", "keras", "tensorflow")},
    )
    return attach(content, metadata)


def _checked_images(source: Source, name: str, images: Any) -> np.ndarray | None:
    """Returns the images of an argument as the input of the model, or None for None."""
    if images is None:
        return None
    images = as_batch(name, images, image_shape(source.model), source.preprocessing)
    check_real(name, images, source.preprocessing)
    return images
