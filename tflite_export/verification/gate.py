"""The bounds between a TFLite file and its Keras model, and the check against them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

from keras_archs.display.formatting import byte_size

from ..settings import SELECTIVE, ExportSettings, Quantize
from .parity import CONFIDENCE, Parity
from .rejection import ParityError
from .report import Report


@dataclass(frozen=True)
class Bound:
    """The largest allowed distance between a file and its Keras model.

    A file is rejected for its agreement if the whole 95% confidence interval is below
    `min_agreement`, see `Parity.agreement_interval`. A bound of 97% allows different classes for 4
    of 40 images, and for 75 of 2,000. The check uses the upper end of the interval because the
    lower end would reject every file that is compared on few images: it is 91% for 40 images
    without a difference.

    Attributes:
        min_agreement: smallest fraction of the images for which both predict the same class.
        max_error: largest difference between two scores, as a share of the range of the Keras
            scores; None for no bound.
        max_deviation: largest `Parity.deviation`; None for no bound.
        reason: explanation of the values, shown if a file is rejected.
    """

    min_agreement: float
    max_error: float | None
    max_deviation: float | None
    reason: str

    def broken_by(self, parity: Parity) -> bool:
        """Returns whether a file is too far from its Keras model."""
        return (
            parity.agreement_interval[1] < self.min_agreement
            or parity.max_error > (inf if self.max_error is None else self.max_error)
            or parity.deviation > (inf if self.max_deviation is None else self.max_deviation)
        )


_BORDER = (
    " A single image on the border of two classes can change by half of the range, so the largest"
    " error has no default bound."
)


# The bounds of the deviation are far above the values of correct files and below those of most
# broken files. Measured values:
# - Logits of the 95 networks in docs/tflite.csv: up to 2e-5 (none), 0.015 (float16), 0.25 (8 bits)
#   and 0.41 (int8). Probabilities of 9 networks on generated images: no more than these.
# - Six networks with random weights, which amplify differences from layer to layer: 3e-5, 0.46, 1.0
#   and 0.6.
# - Five networks with all weights moved by 1,474 bytes, as by a wrong offset: 0.9 to 2, or NaN.
# Probabilities of 0 give a deviation of 1.
BOUNDS: Mapping[Quantize, Bound] = {
    "none": Bound(
        0.999,
        1e-3,
        1e-2,
        "The same float32 arithmetic in another order. About 1e-6 of the range is usual.",
    ),
    "float16": Bound(
        0.99,
        0.05,
        0.5,
        "Weights have 11 of 24 bits. About 0.004 of the range is usual on Fashion-MNIST.",
    ),
    "dynamic": Bound(
        0.97, None, 1.0, "Weights have 8 bits. Each image has its own activation ranges." + _BORDER
    ),
    "int8": Bound(
        0.95,
        None,
        1.0,
        "Weights and activations have 8 bits. On Fashion-MNIST, a MobileNet with a top-1 of 86.8%"
        " agrees on 99.4% of the images, and one with 60% (two epochs) on 93%. Networks with 1,000"
        " similar classes may need a lower bound, too." + _BORDER,
    ),
    "int16x8": Bound(0.97, None, 1.0, "Weights have 8 bits, activations 16." + _BORDER),
    "weight_int8": Bound(0.97, None, 1.0, "Weights have 8 bits. All else is float." + _BORDER),
    "weight_int4": Bound(
        0.85,
        None,
        1.0,
        "Weights have 16 levels. Few networks work without training for them." + _BORDER,
    ),
}


def bound_for(settings: ExportSettings) -> Bound:
    """Returns the bound for the settings.

    A bound in the settings replaces the default bound of the kind and removes the bound of the
    deviation.
    """
    bound = BOUNDS[settings.quantize]
    if settings.min_agreement is None and settings.max_error is None:
        return bound
    if settings.min_agreement is not None:
        bound = replace(bound, min_agreement=settings.min_agreement)
    if settings.max_error is not None:
        bound = replace(bound, max_error=settings.max_error)
    return replace(bound, max_deviation=None, reason="Set by min_agreement or max_error.")


def check_stand_in(content: bytes, quantize: Quantize, parity: Parity) -> None:
    """Checks the deviation of a file that was compared on substitutes for test images.

    Agreement and largest error have no bound: on such images the scores of several classes can be
    close together.

    Args:
        content: the bytes of the file.
        quantize: kind of the file.
        parity: the comparison.

    Raises:
        ParityError: the deviation is too large. The message is one line.
    """
    bound = replace(BOUNDS[quantize], min_agreement=0.0, max_error=None)
    if bound.broken_by(parity):
        raise ParityError(
            f"The {quantize} file is too far from the Keras model: its probabilities deviate by"
            f" {parity.deviation:.2%} on {parity.images} images, and at most"
            f" {bound.max_deviation:.0%} is allowed. Pass test images (test=, --dataset) and, if"
            " needed, other bounds, or choose another kind.",
            content,
        )


def rejected(content: bytes, report: Report, bound: Bound) -> ParityError:
    """Returns the error for a file outside its bound. Its message is a block of figures."""
    low, high = report.agreement_interval
    agreeing = round(report.agreement * report.images)
    lines = [
        f"The {report.quantize} file is too far from the Keras model ({report.images:,} images):",
        f"  same top-1 class  {agreeing:,} of {report.images:,} images, {report.agreement:.2%};"
        f" {CONFIDENCE:.0%} interval {low:.2%} to {high:.2%}, at least {bound.min_agreement:.2%}",
        f"  largest error     {report.max_error:.2%} of the score range,"
        f" {_at_most(bound.max_error)}",
        f"  deviation         {report.deviation:.2%} of the probabilities,"
        f" {_at_most(bound.max_deviation)}",
    ]
    if report.keras_top1 is not None and report.tflite_top1 is not None:
        lines.append(f"  top-1             {report.tflite_top1:.2%}, Keras {report.keras_top1:.2%}")
    lines += [f"  size              {byte_size(report.size_bytes)}", f"  bound: {bound.reason}"]
    if report.kept_float:
        lines.append(f"  {report.price()}")
    lines.append(
        "  More test images narrow the interval."
        + " auto=True (--auto) keeps layers in float." * (report.quantize in SELECTIVE)
        + " min_agreement= (--min-agreement) and max_error= (--max-error) set other bounds."
    )
    return ParityError("\n".join(lines), content, report)


def _at_most(bound: float | None) -> str:
    return "no bound" if bound is None else f"at most {bound:.2%}"


Result = TypeVar("Result")


def fewest(
    make: Callable[[Sequence[str]], Result], layers: Sequence[str], good: Callable[[Result], bool]
) -> Result:
    """Finds the shortest prefix of `layers` with a good result, and returns the result.

    The length is doubled until a result is good, and then bisected. `make` is called about
    2 log2(n) times for n layers. A longer prefix must not be worse than a shorter one.

    Args:
        make: computes the result for a prefix.
        layers: layer names, the most important first.
        good: returns whether a result is good.

    Returns:
        The result for the shortest good prefix, or for all layers if no result is good.
    """
    too_short, length = 0, min(1, len(layers))
    result = make(layers[:length])
    while not good(result) and length < len(layers):
        too_short, length = length, min(2 * length, len(layers))
        result = make(layers[:length])
    if not good(result):
        return result
    while length - too_short > 1:
        middle = (too_short + length) // 2
        candidate = make(layers[:middle])
        if good(candidate):
            length, result = middle, candidate
        else:
            too_short = middle
    return result
