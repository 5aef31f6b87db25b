"""The metadata in a TFLite file: the names of its classes, and the preprocessing of pixels.

The file has standard TFLite metadata (tensorflow_lite_support/metadata/metadata_schema.fbs), which
Android Studio and MediaPipe read. As in the standard, a ZIP archive follows the network. It holds
two files: labels.txt, and keras_archs.json with the facts that have no field in the standard. Any
unzip program lists them.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import input_error

LABELS, FACTS = "labels.txt", "keras_archs.json"
FORMAT = 1
_LARGEST = 16 << 20
"""Files in the archive that have this many bytes or more are not read."""
# Errors that zipfile raises for bytes without an archive, or with a damaged one.
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    ValueError,
    RuntimeError,
    EOFError,
    OSError,
    IndexError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Metadata:
    """The facts that a program needs to use the file of a classifier.

    Attributes:
        class_names: a name for each output, in order; for a single output, a name for low scores
            and one for high scores; None if the names are unknown.
        mean: is subtracted from pixels of 0..255: one value, or one for each channel in the order
            of the input.
        scale: the difference is divided by it: one value, or one for each channel.
        bgr: whether the channels of the input are blue, green, red.
        image_shape: (height, width, channels).
        quantize: kind of the file, one of `tflite_export.KINDS`.
        probabilities: whether the output is probabilities, after a softmax or sigmoid; else it is
            logits.
        activation: the last activation of the network, "softmax" or "sigmoid", which turns logits
            into probabilities; None if the network ends in neither.
        preprocessing_inside: whether the file preprocesses its input itself and takes pixels of
            0..255. `mean` is then 0 and `scale` is 1.
        crop: side of the centred square that evaluation used, as a share of an image's shorter
            side; None for the whole image.
        versions: versions of the packages that made the file.
    """

    class_names: tuple[str, ...] | None
    mean: tuple[float, ...]
    scale: float | tuple[float, ...]
    bgr: bool
    image_shape: tuple[int, int, int]
    quantize: str
    probabilities: bool = True
    activation: str | None = None
    preprocessing_inside: bool = False
    crop: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("class_names", "mean", "image_shape"):  # JSON gives lists
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else tuple(value))
        if isinstance(self.scale, Sequence):
            object.__setattr__(self, "scale", tuple(self.scale))
        shape = self.image_shape
        if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise input_error(f"image_shape must be 3 integers of at least 1, got {shape}.")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise input_error(f"crop must be None or above 0 and at most 1, got {self.crop}.")
        if self.activation not in (None, "softmax", "sigmoid"):
            raise input_error(
                f"activation must be None, 'softmax' or 'sigmoid', got {self.activation!r}."
            )
        channels = shape[-1]
        for name, values in (("mean", self.mean), ("scale", np.atleast_1d(self.scale))):
            if channels != 1 and len(values) not in (1, channels):
                raise input_error(f"{name} must hold 1 or {channels} values, got {len(values)}.")
        if not np.all(self.scale):
            raise input_error(f"scale must not be 0, got {self.scale}.")
        if self.preprocessing_inside and (np.any(self.mean) or np.any(np.not_equal(self.scale, 1))):
            raise input_error(
                "mean must be 0 and scale must be 1 if preprocessing is inside,"
                f" got {self.mean} and {self.scale}."
            )
        bad = [name for name in self.class_names or () if not name or "\n" in name]
        if bad:
            raise input_error(f"class_names must be of one line each, got {bad[0]!r}.")

    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale, float32 of one value or one for each channel of the input."""
        mean, scale = np.atleast_1d(self.mean), np.atleast_1d(self.scale)
        if self.image_shape[-1] == 1:  # as in keras_archs.preprocessing
            mean, scale = mean.mean(keepdims=True), scale.mean(keepdims=True)
        return mean.astype(np.float32), scale.astype(np.float32)

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """Preprocesses pixels of 0..255 in RGB order, [..., channels]; returns float32."""
        mean, scale = self.constants()
        pixels = pixels[..., ::-1] if self.bgr else pixels
        return (pixels.astype(np.float32) - mean) / scale


def has_archive(content: bytes) -> bool:
    """Whether a ZIP archive follows the network in a file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)):
            return True
    except _NO_ARCHIVE:
        return False


def read_metadata(content: bytes) -> Metadata | None:
    """Reads the metadata that `attach` wrote into a file; None if there are none.

    Raises:
        ValueError: the metadata are damaged, or were written by a later version of this package.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            begin = min((entry.header_offset for entry in archive.infolist()), default=0)
            # Ignore files of other programs, and compressed files, which could expand to any size.
            files = {
                entry.filename: archive.read(entry)
                for entry in archive.infolist()
                if entry.filename in {FACTS, LABELS}
                and entry.compress_type == zipfile.ZIP_STORED
                and entry.file_size < _LARGEST
            }
    except _NO_ARCHIVE:
        return None
    if FACTS not in files:
        return None
    try:
        facts = json.loads(files[FACTS])
        version, metadata = facts.pop("format"), None
        checksum = facts.pop("crc32", None)
        if version == FORMAT:
            lines = None
            if LABELS in files:
                lines = tuple(files[LABELS].decode().removesuffix("\n").split("\n"))
            metadata = Metadata(class_names=lines, **facts)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise input_error(f"content has damaged metadata ({FACTS} or {LABELS}).") from error
    if metadata and checksum not in (None, zlib.crc32(content[:begin])):
        raise input_error("content is damaged: its network differs from the one that was written.")
    if metadata is None:
        raise input_error(
            f"content has metadata of format {version}, which needs a later keras-archs."
        )
    return metadata
