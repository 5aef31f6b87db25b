"""The settings of an export. They are checked on creation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Annotated, Any, Literal, get_args

from keras_archs.arguments import check_int, check_positive_int
from keras_archs.errors import InputError, did_you_mean

from .runtime.classifier import check_threads

Quantize = Literal["none", "float16", "dynamic", "int8", "int16x8", "weight_int8", "weight_int4"]
KINDS: tuple[Quantize, ...] = get_args(Quantize)
Io = Literal["float32", "int8", "uint8"]
Scores = Literal["model", "logits", "probabilities"]

CALIBRATED: tuple[Quantize, ...] = ("int8", "int16x8")
"""Kinds whose activation ranges are measured on representative images."""
SELECTIVE: tuple[Quantize, ...] = ("dynamic", "int8", "int16x8", "weight_int8", "weight_int4")
"""Kinds that can keep single layers in float."""
MIN_REPRESENTATIVE = 50
"""Fewer images give unreliable activation ranges, and with them an unreliable accuracy."""
CALIBRATION_SIZE = 300
"""Default number of calibration images. More images hardly change the ranges."""
TEST_IMAGES = 2000
"""Default limit on the test images that a file is compared on."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """All settings of an export.

    The command line makes one option from each field. The text in a field's type is the help text
    of its option.

    Raises:
        InputError: a value is not allowed, or two settings exclude each other. The message names
            the setting, the value and what is allowed.
    """

    quantize: Annotated[Quantize, f"Kind of file: {', '.join(KINDS)}."] = "none"
    auto: Annotated[
        bool, "Keep layers in float until the file meets the bounds, the worst layers first."
    ] = False
    keep_float: Annotated[Sequence[str], "Keep this layer in float. May be repeated.", "LAYER"] = ()
    min_agreement: Annotated[
        float | None,
        "Required agreement: share of test images with the same class as Keras, 0 to 1. A file is"
        " rejected if the 95% confidence interval of its agreement is below this value. The"
        " default depends on quantize.",
    ] = None
    max_error: Annotated[
        float | None,
        "Largest allowed difference from a score of Keras, as a share of the score range.",
    ] = None
    io: Annotated[
        Io | None, "Input and output type of an int8 file: int8 (default), uint8 or float32."
    ] = None
    batch: Annotated[Literal[1] | None, "Batch size: 1, or None for any."] = 1
    scores: Annotated[
        Scores, "Output of the file: model (as the network), logits or probabilities."
    ] = "model"
    pixels: Annotated[
        bool, "Put the preprocessing into the file. It then takes pixels of 0..255."
    ] = False
    dataset: Annotated[
        str | None,
        "Dataset to calibrate and test with, as for train. Default: the dataset of the run.",
    ] = None
    data_dir: Annotated[Any, "Folder of the TFDS datasets.", "PATH"] = None
    skip_corrupt: Annotated[bool, "Skip images that cannot be decoded."] = False
    preprocessing: Annotated[
        str | None,
        "Family whose preprocessing the network was trained with, or none for pixels of 0..255."
        " Required if the source does not define it.",
        "FAMILY",
    ] = None
    calibration_size: Annotated[int, "Training images to calibrate int8 and int16x8 with."] = (
        CALIBRATION_SIZE
    )
    calibration_seed: Annotated[int, "Seed that draws the calibration images."] = 0
    test_images: Annotated[int, "Maximum number of test images for the comparison with Keras."] = (
        TEST_IMAGES
    )
    threads: Annotated[int, "Threads for the latency measurement."] = 1
    profile: Annotated[
        bool, "Measure the time of each operator and the peak speed of the machine, for the page."
    ] = False
    debug: Annotated[bool, "Measure how much the quantization of each layer costs."] = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ExportSettings":
        """Creates settings from a mapping.

        Raises:
            InputError: a key is not a setting, or a value is not allowed.
        """
        known = [setting.name for setting in fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"There is no setting {name!r}.{did_you_mean(name, known)}")
        return cls(**settings)

    def __post_init__(self) -> None:
        _check_choice("quantize", self.quantize, KINDS)
        if self.io is not None:
            _check_choice("io", self.io, get_args(Io))
        if self.quantize != "int8" and self.io not in (None, "float32"):
            raise InputError(
                f"io={self.io!r} works with quantize='int8' only, got {self.quantize!r}."
            )
        if self.batch not in (1, None):
            raise InputError(
                f"batch must be 1, or None for any number of images, got {self.batch!r}."
            )
        _check_choice("scores", self.scores, get_args(Scores))
        self._check_bounds()
        if isinstance(self.keep_float, str) or not isinstance(self.keep_float, Iterable):
            raise InputError(f"keep_float must be a list of layer names, got {self.keep_float!r}.")
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        for name in ("keep_float", "auto"):
            if getattr(self, name) and self.quantize not in SELECTIVE:
                raise InputError(
                    f"{name} works with quantize={', '.join(map(repr, SELECTIVE))} only, got"
                    f" {self.quantize!r}."
                )
        check_threads(self.threads)
        check_draw(
            self.calibration_size, self.calibration_seed, ("calibration_size", "calibration_seed")
        )
        if self.calibration_size < MIN_REPRESENTATIVE:
            raise InputError(
                "calibration_size (--calibration-size) must be at least"
                f" {MIN_REPRESENTATIVE} images, got {self.calibration_size}."
            )
        if check_int("test_images", self.test_images) < 1:
            raise InputError(
                f"test_images (--test-images) must be at least 1, got {self.test_images}."
            )
        if self.data_dir is not None and self.dataset is None:
            raise InputError(
                f"data_dir={str(self.data_dir)!r} (--data-dir) needs dataset (--dataset)."
            )

    def _check_bounds(self) -> None:
        if self.min_agreement is not None and (
            not isinstance(self.min_agreement, Real) or not 0 <= self.min_agreement <= 1
        ):
            raise InputError(f"min_agreement must be from 0 to 1, got {self.min_agreement!r}.")
        if self.max_error is not None and (
            not isinstance(self.max_error, Real) or not self.max_error > 0
        ):
            raise InputError(f"max_error must be greater than 0, got {self.max_error!r}.")


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(
            f"{name} must be one of {', '.join(allowed)}, got {value!r}."
            + did_you_mean(str(value), allowed)
        )


def check_draw(count: Any, seed: Any, names: tuple[str, str] = ("count", "seed")) -> None:
    """Checks the number of images to draw and the seed.

    Args:
        count: number of images.
        seed: seed of the draw.
        names: names of the two arguments, for the message.

    Raises:
        InputError: `count` is not a positive integer, or `seed` is not from 0 to 2**32 - 1.
    """
    check_positive_int(names[0], count)
    if not 0 <= check_int(names[1], seed) < 2**32:
        raise InputError(f"{names[1]} must be from 0 to {2**32 - 1}, got {seed}.")
