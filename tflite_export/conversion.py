"""From a Keras model to a TFLite file that is let through only if it says the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_archs.display import byte_size, html_table
from keras_archs.errors import InputError
from keras_archs.files import local_path, write_target
from keras_archs.quiet import quiet_in_notebook

from .arguments import (
    check_as_trained,
    check_settings,
    check_untested,
    given_images,
)
from .calibration import as_seen, calibration_set, evaluation_set
from .debugging import debug
from .fake_quantization.model import is_quantize_aware
from .file_graph import Graph
from .gate import check_stand_in, fewest, rejected
from .lowering import CALIBRATED, Io, Quantize, as_representative, lower
from .metadata import Metadata, attach
from .parity import Parity, as_labels, keras_scores
from .preparing import (
    PIXELS,
    Scores,
    check_convertible,
    image_shape,
    own_activation,
    unfolded,
)
from .quantizing import check_names
from .report import Report
from .serializing import pack, unpack
from .sources import Source, open_source
from .stand_ins import COUNT, stand_ins

TEST_IMAGES = 2000
"""Of a run that a file is tested on, if nothing else is said."""


@dataclass(frozen=True)
class Conversion:
    """A TFLite file in memory.

    Attributes:
        quantize: one of `KINDS`.
        content: the bytes of the file.
        kept_float: names of the layers that were kept in float.
        report: the file beside its Keras model; None if there were no images to test it on.
        stand_in: how near it came to the model on images in their place, the first `representative`
            ones or generated ones; None if there is a report.
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
        """The table of a notebook."""
        if self.report:
            return self.report._repr_html_()
        row = [self.quantize, byte_size(len(self.content)), ", ".join(self.kept_float)]
        return html_table(["quantize", "size", "kept in float"], [row], self._tested())

    def _tested(self) -> str:
        """What a file without a report was tested on."""
        if self.stand_in is None:
            return "not tested"
        return f"without test images, tried on {self.stand_in.images} others"

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the file whole or not at all, and returns its path.

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
) -> Conversion:
    """Converts an image classifier to a TFLite file and holds the file against the model.

        conversion = tflite_export.convert(
            model, "int8", representative=images, test=test_images, labels=test_labels, auto=True
        )
        conversion.save("model.tflite")

    Where it is known how images are prepared for the source, which a run, a network of the registry
    or a `Source` tells, the file has that and the names of the classes inside, see `Metadata`.

    Args:
        source: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes], or [n, 1] of two classes, in any precision, which
            is left as it is; the path of a .keras file; the folder of a run; or NAME:WEIGHTS such
            as "mobilenet:imagenet".
        quantize: one of `KINDS`, see `lower`.
        representative: for "int8" and "int16x8" only, at least 50 images: the activations' ranges
            are measured on them. They are floats [n, height, width, channels], preprocessed as in
            training, in an array, a tensor or a list; or pixels, uint8, where it is known how
            images are prepared for the source. A run's are `calibration_set(run)` if None.
        test: images to test the file on, likewise. A run's are 2,000 of its test images if None,
            with their labels. Without any the file is tried on `representative` ones or on
            generated ones, and refused if it says something else than the model.
        labels: whole numbers [n], the classes of `test`; without them the report has no top-1.
        keep_float: names of layers that are not quantized.
        auto: whether more layers may be kept in float, as few of the worst as the bound asks for.
        min_agreement: least fraction of the test images for which model and file name the same
            class; that of `gate.BOUNDS` for the kind if None.
        max_error: largest difference between two scores, as a share of their range, likewise.
        io: type of input and output of an "int8" file: "int8" (as None), "uint8" or "float32".
        batch: images that the file takes at once: 1, or None for any number.
        scores: "model" for the model's own output, "logits" or "probabilities".
        pixels: whether the file takes pixels of 0..255 and preprocesses them itself.
        threads: of the interpreter that the latency is measured with.

    Raises:
        InputError: an argument is unfit, the model is no such classifier, the images are noise or
            not preprocessed, "int8" is asked for an operation that has no integer version, or
            any kind for a model that does not convert: the error's cause then has all that
            TensorFlow says. Or LiteRT cannot open the file, as it is tried on every one.
        ParityError: the file is too far from the model on the test images, see `gate.Bound`, or
            without any says something else on generated ones; the error has the file.
        NotFiniteError: the model or the file gives NaN or infinity; it is a ParityError.
    """
    bound = check_settings(
        quantize,
        auto=auto,
        min_agreement=min_agreement,
        max_error=max_error,
        threads=threads,
        io=io,
        batch=batch,
        scores=scores,
        keep_float=keep_float,
    )
    opened = source if isinstance(source, Source) else open_source(source)
    model, inside = opened.model, opened.preprocessing if pixels else None
    if pixels and inside is None:
        raise InputError("pixels=True needs a source whose preprocessing is known.")
    check_convertible(model, scores)
    check_as_trained(
        opened, quantize, auto=auto, keep_float=keep_float, scores=scores, pixels=pixels
    )
    check_names(model, keep_float)
    has_ranges = is_quantize_aware(model)
    # A run's images may be gone: they are looked for only where there are no others.
    if representative is None and quantize in CALIBRATED and not has_ranges and opened.run:
        representative = calibration_set(opened.run)
    if test is None and labels is None and opened.run:
        test, labels = evaluation_set(opened.run, TEST_IMAGES)
    representative = given_images(opened, "representative", representative)
    if not has_ranges:
        as_representative(representative, quantize, image_shape(model))
    test = given_images(opened, "test", test)
    if test is None:
        check_untested(
            labels=labels, auto=auto or None, min_agreement=min_agreement, max_error=max_error
        )
    elif labels is not None:
        labels = as_labels(labels, len(test), model.outputs[0].shape[-1])

    def make(kept: Sequence[str]) -> Conversion:
        content = lower(
            model,
            quantize,
            representative=representative,
            keep_float=kept,
            io=io,
            batch=batch,
            scores=scores,
            preprocessing=inside,
        )
        return Conversion(
            quantize, as_written(content, opened, quantize, pixels=pixels), tuple(kept)
        )

    images = _stand_ins(opened, representative) if test is None else test
    expected = keras_scores(unfolded(model, scores), images)
    seen = as_seen(images, inside)
    conversion = make(keep_float)
    if test is None:
        stand_in = Parity.measure(conversion.content, seen, None, expected)
        check_stand_in(conversion.content, quantize, stand_in)
        return replace(conversion, stand_in=stand_in)

    def tested(made: Conversion) -> tuple[Conversion, Parity]:
        return made, Parity.measure(made.content, seen, labels, expected, threads)

    conversion, parity = tested(conversion)
    whole_bytes = None
    if auto or keep_float:
        whole_bytes = len((make(()) if keep_float else conversion).content)
    if auto and bound.broken_by(parity):
        worst = debug(
            model,
            quantize,
            conversion.content,
            test,
            keep_float=keep_float,
            scores=scores,
            preprocessing=inside,
        )
        layers = [each.layer for each in worst][:-1]  # one at least is left to quantize
        conversion, parity = fewest(
            lambda more: tested(make([*keep_float, *more])),
            layers,
            lambda found: not bound.broken_by(found[1]),
        )
    report = Report.for_file(conversion, parity, seen[0], threads=threads, whole_bytes=whole_bytes)
    if bound.broken_by(report):
        raise rejected(conversion.content, report, bound)
    return replace(conversion, report=report)


def _stand_ins(source: Source, representative: np.ndarray | None) -> np.ndarray:
    """Images to try a file on without test images: real ones, if there are any.

    A calibrated file is right for images like those that its ranges were measured on alone.
    """
    if representative is not None:
        return representative[:COUNT]
    return stand_ins(image_shape(source.model), source.preprocessing)


def as_written(
    content: bytes, source: Source, quantize: Quantize, *, pixels: bool = False
) -> bytes:
    """The file as it is written: with metadata, if it is known how images are prepared."""
    if source.preprocessing is None:
        return pack(unpack(content))
    left = PIXELS if pixels else source.preprocessing
    facts = Metadata(
        class_names=source.class_names,
        mean=left.mean,
        scale=left.scale,
        bgr=left.bgr,
        image_shape=image_shape(source.model),
        quantize=quantize,
        probabilities=Graph.read(content).gives_probabilities(),
        activation=own_activation(source.model),
        preprocessing_inside=left == PIXELS,
        crop=source.crop,
        versions={name: version(name) for name in ("keras-archs", "keras", "tensorflow")},
    )
    return attach(content, facts)
