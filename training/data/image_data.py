"""The dataset type that every reader returns, and the checks that all readers share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from keras_archs.errors import InputError

from .crop_windows import Choose
from .decode.decode import decode

SPLITS = ("train", "validation", "test")

Shape = tuple[int | None, int | None, int]
"""Height, width and channels of a dataset's images. Height and width are None if they vary."""

Announce = Callable[[tuple[str, ...] | None, Shape], None]
"""Takes a dataset's class names and image shape. The names are None until the images are read."""


@dataclass(frozen=True)
class Examples:
    """One split in its stored form. Shuffling and skipping encoded examples is cheap.

    Attributes:
        encoded: one element per example, always in the same order. The cardinality is known.
        content: maps the components of an element to `(file, label)`: the bytes of an image file
            as a string scalar, and an int64 scalar.
        channels: number of channels after decoding, 1 or 3.
        encoded_bytes: approximate memory of an element.
    """

    encoded: tf.data.Dataset
    content: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    channels: int
    encoded_bytes: int

    def __len__(self) -> int:
        return int(self.encoded.cardinality())

    def decode(
        self, *components: tf.Tensor, choose: Choose | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes an element to `(image, label)`.

        The image is uint8 `[height, width, channels]`: all of it, or the window from `choose`.
        """
        content, label = self.content(*components)
        return decode(content, choose, channels=self.channels), label

    def labels(self) -> tf.data.Dataset:
        """Returns the label of each example, an int64 scalar, without decoding the images."""
        return self.encoded.map(lambda *parts: self.content(*parts)[1], tf.data.AUTOTUNE)

    def decoded(self) -> tf.data.Dataset:
        return self.encoded.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)


@dataclass(frozen=True)
class ImageData:
    """A classification dataset in three disjoint splits.

    `splits` holds the splits in their stored form. `train`, `validation` and `test` yield
    `(image, label)`: a uint8 tensor `[height, width, channels]` and an int64 scalar from 0 to
    `len(class_names) - 1`. Their order is always the same, and their cardinality is known.
    Height and width in `image_shape` are None if they vary.

    Raises:
        InputError: a split has no image.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: Shape
    splits: Mapping[str, Examples]

    def __post_init__(self) -> None:
        for split in SPLITS:
            if len(self.splits[split]) == 0:
                raise InputError(
                    f"dataset {self.name!r}: the {split} split has no images, because there are too"
                    f" few images to hold out a tenth. Add images, or add a split {split!r}."
                )

    def __repr__(self) -> str:
        images = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        shape = " x ".join(str(side or "?") for side in self.image_shape)
        return f"<ImageData {self.name!r}: {len(self.class_names)} classes, {images}, {shape}>"

    @property
    def counts(self) -> dict[str, int]:
        """Number of images in each split."""
        return {name: len(split) for name, split in self.splits.items()}

    @property
    def train(self) -> tf.data.Dataset:
        return self.splits["train"].decoded()

    @property
    def validation(self) -> tf.data.Dataset:
        return self.splits["validation"].decoded()

    @property
    def test(self) -> tf.data.Dataset:
        return self.splits["test"].decoded()


def require_classes(name: str, class_names: Sequence[str]) -> None:
    """Checks that dataset `name` has two or more classes, each named by one line of UTF-8.

    Class names are written to UTF-8 files, one name per line.

    Raises:
        InputError: the classes do not meet these conditions.
    """
    for class_name in class_names:
        if class_name.splitlines() != [class_name] or not is_utf8(class_name):
            raise InputError(
                f"dataset {name!r}: class {class_name!r} has a name that is not one line of UTF-8;"
                " rename the class"
            )
    if len(class_names) < 2:
        raise InputError(
            f"dataset {name!r}: {len(class_names)} class found ({', '.join(class_names)}); "
            "classification needs 2 or more"
        )


def is_utf8(text: str) -> bool:
    """Whether a name can be encoded. Python replaces bytes of a path that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
