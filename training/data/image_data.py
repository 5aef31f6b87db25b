"""What every source of images hands on, and the checks that hold for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from keras_archs.errors import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageData:
    """A classification dataset in three disjoint splits.

    Each split yields `(image, label)`, a uint8 tensor `[height, width, channels]` and an int64
    scalar from 0 to `len(class_names) - 1`, in the same order every time, and knows its
    cardinality. `image_shape` has None for a height and a width that vary.

    Raises:
        InputError: a split has no image.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset

    def __post_init__(self) -> None:
        for split in SPLITS:
            if getattr(self, split).cardinality() == 0:
                raise InputError(
                    f"dataset {self.name!r}: no image is left for the {split} split; "
                    "add images, or give that split its own"
                )


def require_classes(name: str, class_names: Sequence[str]) -> None:
    """Raise `InputError` unless dataset `name` has classes to tell apart."""
    if len(class_names) < 2:
        raise InputError(
            f"dataset {name!r}: {len(class_names)} class found ({', '.join(class_names)}); "
            "classification needs 2 or more"
        )
