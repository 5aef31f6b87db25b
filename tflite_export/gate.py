"""What a file has to keep of its Keras model to be let through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from numbers import Real
from typing import TypeVar

from keras_archs.display import byte_size
from keras_archs.errors import InputError

from .lowering import SELECTIVE, Quantize
from .parity import CONFIDENCE, Parity
from .rejection import ParityError
from .report import Report


@dataclass(frozen=True)
class Bound:
    """How far a file may be from its Keras model.

    A file is refused for its agreement if the images prove that it agrees on too few: if all of the
    95% confidence interval is below `min_agreement`, see `Parity.agreement_interval`. In other
    words, the lower end of the interval of the share that differs is above the share that may
    differ. At 97%, 4 of 40 images may differ and 75 of 2,000. The lower end of the agreement itself
    would refuse every file for few images: it is 91% for 40 images of which none differs.

    Attributes:
        min_agreement: least fraction of the images for which both name the same class.
        max_error: largest difference between two scores, as a share of their range; None for any.
        max_deviation: largest deviation of the probabilities, see `Parity`; None for any.
        reason: why these and no others.
    """

    min_agreement: float
    max_error: float | None
    max_deviation: float | None
    reason: str

    def broken_by(self, parity: Parity) -> bool:
        """Whether a file is too far from its Keras model."""
        return (
            parity.agreement_interval[1] < self.min_agreement
            or parity.max_error > (inf if self.max_error is None else self.max_error)
            or parity.deviation > (inf if self.max_deviation is None else self.max_deviation)
        )


_BORDER = (
    " One image on the border of two classes can move by half of the range while all others stay,"
    " so the largest error has no bound unless one is given."
)
# The deviations are far above those of sound files and below those of most broken ones. Logits of
# the 95 networks in docs/tflite.csv deviate by up to 2e-5 (none), 0.015 (float16), 0.25 (8 bits)
# and 0.41 (int8); probabilities of 9 networks on generated images by no more. Six networks with
# random weights, which make every difference larger from layer to layer, come to 3e-5, 0.46, 1.0
# and 0.6. With all weights moved by 1,474 bytes, as a wrong offset does, 5 networks deviate by 0.9
# to 2 or give NaN. Probabilities of 0 would deviate by 1.
BOUNDS: Mapping[Quantize, Bound] = {
    "none": Bound(
        0.999, 1e-3, 1e-2, "The same arithmetic in another order: about 1e-6 of the range is usual."
    ),
    "float16": Bound(
        0.99, 0.05, 0.5, "Weights lose 13 of 24 bits: about 0.004 of the range on Fashion-MNIST."
    ),
    "dynamic": Bound(0.97, None, 1.0, "Weights of 8 bits, ranges of each image." + _BORDER),
    "int8": Bound(
        0.95,
        None,
        1.0,
        "Weights and activations of 8 bits. A MobileNet of 86.8% on Fashion-MNIST agrees on 99.4%,"
        " one that two epochs have left at 60% on 93%; networks of 1,000 classes that look alike"
        " may need a lower bound as well." + _BORDER,
    ),
    "int16x8": Bound(
        0.97, None, 1.0, "As weights of 8 bits alone, the activations have 16." + _BORDER
    ),
    "weight_int8": Bound(0.97, None, 1.0, "Weights of 8 bits, all else in float." + _BORDER),
    "weight_int4": Bound(
        0.85,
        None,
        1.0,
        "16 steps for a weight, which few networks bear that were not trained for it." + _BORDER,
    ),
}


def bound_for(
    quantize: Quantize, min_agreement: float | None = None, max_error: float | None = None
) -> Bound:
    """The bound of a kind; one that is given replaces it, and lets any deviation pass.

    Raises:
        InputError: `min_agreement` is no fraction, or `max_error` is not positive.
    """
    bound = BOUNDS[quantize]
    if min_agreement is not None:
        if not isinstance(min_agreement, Real) or not 0 <= min_agreement <= 1:
            raise InputError(f"min_agreement must be from 0 to 1, got {min_agreement!r}.")
        bound = replace(bound, min_agreement=min_agreement)
    if max_error is not None:
        if not isinstance(max_error, Real) or not max_error > 0:
            raise InputError(f"max_error must be greater than 0, got {max_error!r}.")
        bound = replace(bound, max_error=max_error)
    return (
        bound
        if bound is BOUNDS[quantize]
        else replace(bound, max_deviation=None, reason="As given.")
    )


def check_stand_in(content: bytes, quantize: Quantize, parity: Parity) -> None:
    """Lets a file through that nobody gives test images for, if it does say what its model says.

    Which class is best among scores that lie close together does not matter on such images.

    Raises:
        ParityError: it says something else; the message is one line.
    """
    bound = replace(BOUNDS[quantize], min_agreement=0.0, max_error=None)
    if bound.broken_by(parity):
        raise ParityError(
            f"The {quantize} file says something else than the Keras model: on {parity.images}"
            f" images its probabilities deviate by {parity.deviation:.2%}, at most"
            f" {bound.max_deviation:.0%} lets it through. Give test images (test=, --dataset), and"
            " other bounds if need be, or choose another kind.",
            content,
        )


def rejected(content: bytes, report: Report, bound: Bound) -> ParityError:
    """The error for a file that a bound is broken by; its message is a block of numbers."""
    low, high = report.agreement_interval
    same = round(report.agreement * report.images)
    lines = [
        f"The {report.quantize} file is too far from the Keras model ({report.images:,} images):",
        f"  same top-1 class  {same:,} of {report.images:,} images, {report.agreement:.2%};"
        f" {CONFIDENCE:.0%} interval {low:.2%} to {high:.2%}, at least {bound.min_agreement:.2%}",
        f"  largest error     {report.max_error:.2%} of the scores' range,"
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
        "  More test images make the interval narrower."
        + " auto=True (--auto) keeps layers in float." * (report.quantize in SELECTIVE)
        + " min_agreement= (--min-agreement) and max_error= (--max-error) set other bounds."
    )
    return ParityError("\n".join(lines), content, report)


def _at_most(bound: float | None) -> str:
    return "any" if bound is None else f"at most {bound:.2%}"


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
