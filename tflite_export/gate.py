"""What a file has to keep of its Keras model to be let through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from numbers import Real
from pathlib import Path
from typing import TypeVar

from keras_archs.display import byte_size
from keras_archs.errors import InputError
from keras_archs.files import local_path, write_target

from .lowering import Quantize
from .parity import Parity
from .report import Report


@dataclass(frozen=True)
class Bound:
    """How far a file may be from its Keras model.

    Attributes:
        min_agreement: least fraction of the images for which both name the same class.
        max_error: largest difference between two scores, as a share of their range; None for any.
        reason: why these and no others.
    """

    min_agreement: float
    max_error: float | None
    reason: str

    def broken_by(self, parity: Parity) -> bool:
        """Whether a file is too far from its Keras model; NaN always is."""
        near = parity.max_error <= (inf if self.max_error is None else self.max_error)
        return not (parity.agreement >= self.min_agreement and near)


_BORDER = (
    " One image on the border of two classes can move by half of the range while all others stay,"
    " so the largest error has no bound unless one is given."
)
BOUNDS: Mapping[Quantize, Bound] = {
    "none": Bound(
        0.999, 1e-3, "The same arithmetic in another order: about 1e-6 of the range is usual."
    ),
    "float16": Bound(
        0.99, 0.05, "Weights lose 13 of 24 bits: about 0.004 of the range on Fashion-MNIST."
    ),
    "dynamic": Bound(0.97, None, "Weights of 8 bits, ranges of each image." + _BORDER),
    "int8": Bound(
        0.95,
        None,
        "Weights and activations of 8 bits. A MobileNet of 86.8% on Fashion-MNIST agrees on 99.4%,"
        " one that two epochs have left at 60% on 93%; networks of 1,000 classes that look alike"
        " may need a lower bound as well." + _BORDER,
    ),
    "int16x8": Bound(0.97, None, "As weights of 8 bits alone, the activations have 16." + _BORDER),
    "weight_int8": Bound(0.97, None, "Weights of 8 bits, all else in float." + _BORDER),
    "weight_int4": Bound(
        0.85,
        None,
        "16 steps for a weight, which few networks bear that were not trained for it." + _BORDER,
    ),
}


def bound_for(
    quantize: Quantize, min_agreement: float | None = None, max_error: float | None = None
) -> Bound:
    """The bound of a kind, with those parts of it replaced that are given.

    Raises:
        InputError: `min_agreement` is no fraction, or `max_error` is not positive.
    """
    bound = BOUNDS[quantize]
    if min_agreement is not None:
        if not isinstance(min_agreement, Real) or not 0 <= min_agreement <= 1:
            raise InputError(f"min_agreement must be from 0 to 1, got {min_agreement!r}.")
        bound = replace(bound, min_agreement=min_agreement, reason="As given.")
    if max_error is not None:
        if not isinstance(max_error, Real) or not max_error > 0:
            raise InputError(f"max_error must be greater than 0, got {max_error!r}.")
        bound = replace(bound, max_error=max_error, reason="As given.")
    return bound


class ParityError(Exception):
    """A file that is too far from its Keras model; the message is a block of numbers.

    Attributes:
        content: the bytes of the file.
        report: its report.
        bound: what it was held to.
    """

    exit_code = 3  # see `command_line.finish`

    def __init__(self, content: bytes, report: Report, bound: Bound) -> None:
        super().__init__(_numbers(report, bound))
        self.content, self.report, self.bound = content, report, bound

    def keep_aside(self, target: str | Path) -> Path:
        """Writes the file and its report for a look, and returns the file's path.

        Args:
            target: the path that the file was meant for, such as model.tflite; it is not touched.
                The file comes to model.rejected.tflite, the report to model.rejected.json.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        path = local_path(target).with_suffix(".rejected.tflite")
        write_target(path, self.content, overwrite=True)
        self.report.save_json(path.with_suffix(".json"))
        return path


def _numbers(report: Report, bound: Bound) -> str:
    error = "any" if bound.max_error is None else f"at most {bound.max_error:.2%}"
    lines = [
        f"The {report.quantize} file is too far from the Keras model ({report.images:,} images):",
        f"  same top-1 class  {report.agreement:.2%}, at least {bound.min_agreement:.2%}",
        f"  largest error     {report.max_error:.2%} of the scores' range, {error}",
    ]
    if report.keras_top1 is not None and report.tflite_top1 is not None:
        lines.append(f"  top-1             {report.tflite_top1:.2%}, Keras {report.keras_top1:.2%}")
    lines += [f"  size              {byte_size(report.size_bytes)}", f"  bound: {bound.reason}"]
    return "\n".join([*lines, f"  {report.price()}"] if report.kept_float else lines)


Made = TypeVar("Made")


def fewest(
    make: Callable[[Sequence[str]], Made], layers: Sequence[str], good: Callable[[Made], bool]
) -> Made:
    """What `make` makes of the shortest good head of `layers`, or of all if none is good.

    The length is doubled until the result is good and then halved in, so about twice the logarithm
    of their number is made. That presumes that a longer head is never worse.
    """
    short, length = 0, min(1, len(layers))
    made = make(layers[:length])
    while not good(made) and length < len(layers):
        short, length = length, min(2 * length, len(layers))
        made = make(layers[:length])
    if not good(made):
        return made
    while length - short > 1:
        middle = (short + length) // 2
        other = make(layers[:middle])
        if good(other):
            length, made = middle, other
        else:
            short = middle
    return made
