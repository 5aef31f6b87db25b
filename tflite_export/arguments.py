"""What `convert` refuses before any work."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_archs.errors import InputError

from .calibration import check_real
from .classifier import check_threads
from .gate import Bound, bound_for
from .images import as_batch
from .lowering import (
    SELECTIVE,
    Io,
    Quantize,
    check_choices,
    check_quantize_aware,
    check_selective,
)
from .preparing import PIXELS, Scores, image_shape
from .sources import Source


def check_settings(
    quantize: Quantize,
    *,
    auto: bool = False,
    min_agreement: float | None = None,
    max_error: float | None = None,
    threads: int = 1,
    io: Io | None = None,
    batch: Literal[1] | None = 1,
    scores: Scores = "model",
    keep_float: Sequence[str] = (),
) -> Bound:
    """What a file of a kind is held to; InputError if `convert` would refuse one of these."""
    check_choices(quantize, io, batch, scores)
    bound = bound_for(quantize, min_agreement, max_error)
    check_selective(quantize, keep_float)
    if auto and quantize not in SELECTIVE:
        raise InputError(
            f"auto goes with quantize={', '.join(map(repr, SELECTIVE))}, got {quantize!r}."
        )
    check_threads(threads)
    return bound


def check_as_trained(
    source: Source,
    quantize: Quantize,
    *,
    auto: bool = False,
    keep_float: Sequence[str] = (),
    scores: Scores = "model",
    pixels: bool = False,
    **_: Any,
) -> None:
    """Raises an InputError if a model by `quantize_aware` is to become another file than its own.

    Settings that change nothing of what a file computes may be given too.
    """
    check_quantize_aware(
        source.model,
        quantize,
        auto=auto,
        keep_float=bool(keep_float),
        scores=scores != "model",
        pixels=pixels and source.preprocessing != PIXELS,
    )


def given_images(source: Source, name: str, images: Any) -> np.ndarray | None:
    """Images that an argument of `convert` holds, as the source takes them; None if it is None."""
    if images is None:
        return None
    images = as_batch(name, images, image_shape(source.model), source.preprocessing)
    check_real(name, images, source.preprocessing)
    return images


def check_untested(**settings: Any) -> None:
    """Refuses what is of no effect without test images, if it is given."""
    for name, given in settings.items():
        if given is not None:
            raise InputError(f"{name} needs images to test the file on; give test=.")
