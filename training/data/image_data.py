"""What every source of images hands on, and the checks that hold for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from keras_archs.errors import InputError

from .encoded import decode
from .windows import Choose

SPLITS = ("train", "validation", "test")

Shape = tuple[int | None, int | None, int]
"""Height, width and channels of a dataset's images; None for a height and a width that vary."""

Announce = Callable[[tuple[str, ...] | None, Shape], None]
"""Gets a dataset's class names, None if only its images tell them, and its image shape."""


@dataclass(frozen=True)
class Examples:
    """One split as it is stored: what need not be decoded can be put in order and skipped cheaply.

    Attributes:
        encoded: one element for each example, in the same order every time; of known cardinality.
        content: makes `(file, label)` of the components of an element: the bytes of an image
            file, a string scalar, and an int64 scalar.
        channels: that the images are decoded to, 1 or 3.
        encoded_bytes: the memory that an element takes, about.
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
        """`(image, label)`, uint8 `[height, width, channels]`, whole or the window of `choose`."""
        content, label = self.content(*components)
        return decode(content, choose, channels=self.channels), label

    def decoded(self) -> tf.data.Dataset:
        return self.encoded.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)


@dataclass(frozen=True)
class ImageData:
    """A classification dataset in three disjoint splits.

    `splits` has them as they are stored. `train`, `validation` and `test` yield `(image, label)`, a
    uint8 tensor `[height, width, channels]` and an int64 scalar from 0 to `len(class_names) - 1`,
    in the same order every time, and know their cardinality. `image_shape` has None for a height
    and a width that vary.

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
                    f"dataset {self.name!r}: no image is left for the {split} split; "
                    "add images, or give that split its own"
                )

    def __repr__(self) -> str:
        images = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        shape = " x ".join(str(side or "?") for side in self.image_shape)
        return f"<ImageData {self.name!r}: {len(self.class_names)} classes, {images}, {shape}>"

    @property
    def counts(self) -> dict[str, int]:
        """The images of each split."""
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
    """Raise `InputError` unless dataset `name` has classes to tell apart.

    Their names go to files of UTF-8, one name a line.
    """
    for each in class_names:
        if each.splitlines() != [each] or not is_utf8(each):
            raise InputError(
                f"dataset {name!r}: class {each!r} has a name that is not one line of UTF-8; "
                "rename it"
            )
    if len(class_names) < 2:
        raise InputError(
            f"dataset {name!r}: {len(class_names)} class found ({', '.join(class_names)}); "
            "classification needs 2 or more"
        )


def is_utf8(text: str) -> bool:
    """Whether a name can be stored: Python stands in for bytes of a path that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
