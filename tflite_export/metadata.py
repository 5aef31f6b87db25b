"""What a TFLite file says of itself: its classes, and what to do with pixels before.

The file gets standard TFLite metadata (tensorflow_lite_support/metadata/metadata_schema.fbs), which
Android Studio and MediaPipe read, with two files in a ZIP archive behind the network, as the
standard has it: labels.txt, and keras_archs.json for what the standard has no field for. Any unzip
shows them.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from .errors import input_error

LABELS, FACTS = "labels.txt", "keras_archs.json"
_FORMAT = 1
_LARGEST = 16 << 20
"""Bytes that no list of classes has."""
# What zipfile raises for bytes that are none, or damaged.
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
    """How to use a classifier's file.

    Attributes:
        class_names: one for each output, in its order, or for a single output one for low and one
            for high scores; None if they are not known.
        mean: what to subtract from pixels of 0..255: one value, or one for each channel in the
            order of the input.
        scale: what to divide by then.
        bgr: whether the input's channels are blue, green, red.
        image_shape: (height, width, channels).
        quantize: kind of the file, one of `tflite_export.KINDS`.
        probabilities: whether the output went through a softmax or sigmoid; else it is logits.
        activation: what the network itself ends in, "softmax" or "sigmoid", which is what logits
            are meant for; None where it has neither.
        preprocessing_inside: whether the network's own preprocessing is part of the file, so that
            it takes the pixels as they are: `mean` is 0 and `scale` is 1.
        crop: the centred square of this share of an image's shorter side is what evaluation saw;
            None for the whole image.
        versions: of the packages that had a part in the file.
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
        for name in ("class_names", "mean", "image_shape"):  # lists, where they come from JSON
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else tuple(value))
        if isinstance(self.scale, Sequence):
            object.__setattr__(self, "scale", tuple(self.scale))
        shape = self.image_shape
        if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise input_error(f"image_shape must be 3 whole numbers from 1 on, got {shape}.")
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
                "mean must be 0 and scale 1 where preprocessing is inside,"
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
        """What the file takes, float32, for pixels of 0..255 in RGB order, [..., channels]."""
        mean, scale = self.constants()
        pixels = pixels[..., ::-1] if self.bgr else pixels
        return (pixels.astype(np.float32) - mean) / scale


def attach(content: bytes, metadata: Metadata) -> bytes:
    """The TFLite file with metadata: the same network, one or two kilobytes more, and the names.

    Raises:
        ValueError: `content` is no classifier's file, has metadata or other files with it already,
            or would have more than 2 GB, or `metadata` does not fit its shapes.
    """
    # The first imports this module, and reading does without the others, which take a while.
    from .classifier import Classifier  # noqa: PLC0415
    from .serializing import check_size  # noqa: PLC0415
    from .tflite_metadata import add_metadata  # noqa: PLC0415

    if _has_archive(content):
        raise input_error("content has metadata already, or other files packed with it.")
    classifier = Classifier(content)
    if classifier.image_shape != metadata.image_shape:
        raise input_error(
            f"metadata is for images of {metadata.image_shape}, the file's are of"
            f" {classifier.image_shape}."
        )
    names = metadata.class_names
    if names is not None and len(names) != classifier.classes:
        raise input_error(
            f"metadata has {len(names)} class names for {classifier.classes} classes."
        )

    labelled = {} if names is None else {LABELS: "\n".join(names) + "\n"}
    # The standard's labels are one for each output.
    labels = LABELS if names and len(names) == classifier.scores else None
    network = add_metadata(content, metadata, labels, [FACTS, *labelled])
    facts = {"format": _FORMAT, **asdict(metadata), "crc32": zlib.crc32(network)}
    del facts["class_names"]  # they are in the other file
    files = {FACTS: json.dumps(facts, indent=1) + "\n", **labelled}
    file = io.BytesIO()
    file.write(network)
    with zipfile.ZipFile(file, "a") as archive:  # not compressed: the standard's readers want it
        for name, text in files.items():
            # With a time of its own, the same network would not give the same file.
            archive.writestr(zipfile.ZipInfo(name), text)
    check_size(file.tell())
    return file.getvalue()


def _has_archive(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)):
            return True
    except _NO_ARCHIVE:
        return False


def read_metadata(content: bytes) -> Metadata | None:
    """What `attach` wrote into a file; None if there is nothing.

    Raises:
        ValueError: it is damaged, or by a later version of this package.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            begin = min((entry.header_offset for entry in archive.infolist()), default=0)
            # What others have put beside does not matter, nor what could swell when it is read.
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
        version, found = facts.pop("format"), None
        checksum = facts.pop("crc32", None)
        if version == _FORMAT:
            lines = None
            if LABELS in files:
                lines = tuple(files[LABELS].decode().removesuffix("\n").split("\n"))
            found = Metadata(class_names=lines, **facts)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise input_error(f"content has damaged metadata ({FACTS} or {LABELS}).") from error
    if found and checksum not in (None, zlib.crc32(content[:begin])):
        raise input_error("content is damaged: its network is not the one that was written.")
    if found is None:
        raise input_error(
            f"content has metadata of format {version}, which needs a later keras-archs."
        )
    return found
