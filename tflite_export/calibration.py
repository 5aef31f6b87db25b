"""Images to calibrate a file with and to test it on: drawn from a dataset, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow as tf

from keras_archs.arguments import check_int, check_positive_int
from keras_archs.errors import InputError
from keras_archs.preprocessing import Preprocessing

if TYPE_CHECKING:  # a model can be exported without the training package
    from training.data import Examples, ImageData
    from training.run import Run

COUNT = 300
"""Images that ranges are measured on, if nothing else is said: more move them little."""

# Neighbouring pixels of Fashion-MNIST correlate by 0.88, of 1/sqrt(f) noise, rougher than any
# photograph, by 0.3, of faint stripes under nine times as much noise by 0.06; those of white noise
# by less than 0.02 from 50 images of 16 x 16 pixels on.
_LEAST_CORRELATION = 0.03
# Resizing and a rounding may go a little over the range of 0 to 255.
_LOWEST, _HIGHEST, _LEAST_SPAN = -1, 256, 16
_LOOKED_AT = 256
"""Images that tell of what kind all are: each takes several times its own memory to look at."""


def calibration_set(
    source: Run | ImageData,
    count: int = COUNT,
    *,
    seed: int = 0,
    image_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Training images of all classes alike, as a network sees them, but not augmented.

    Args:
        source: a run, or a dataset of `training.open_dataset`.
        count: how many; all training images if there are fewer. Each class has the same number,
            or one more, as long as it has so many; others make up for those that have not.
        seed: draws which; 0 to 2**32 - 1.
        image_shape: (height, width, channels) of the images of a dataset; a run knows its own.
        preprocessing: for those of a dataset; None leaves pixels of 0..255.

    Returns:
        float32 [count, height, width, channels]

    Raises:
        InputError: `count` or `seed` is out of range, or a dataset has no `image_shape`.
    """
    check_draw(count, seed)
    examples, read = _reader(source, "train", image_shape, preprocessing)
    labels = examples.encoded.map(lambda *e: examples.content(*e)[1], tf.data.AUTOTUNE)
    chosen = balanced(np.concatenate(list(labels.batch(4096).as_numpy_iterator())), count, seed)
    return read(_only(examples, chosen))[0]


def evaluation_set(
    source: Run | ImageData,
    count: int,
    *,
    seed: int = 0,
    image_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Test images and their labels, any `count` of them or all if there are fewer.

    Arguments and errors are those of `calibration_set`.
    """
    check_draw(count, seed)
    examples, read = _reader(source, "test", image_shape, preprocessing)
    chosen = np.random.RandomState(seed).permutation(len(examples))[:count]
    return read(_only(examples, chosen))


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` of the labels, or of all, each class as often as the others if it can be.

    Args:
        labels: whole numbers [n].
        count: from 1 on.
        seed: 0 to 2**32 - 1.
    """
    # Not default_rng, whose streams may change with NumPy.
    random = np.random.RandomState(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class
    sizes = np.unique(labels, return_counts=True)[1]
    # In each round every class that has one left gives an image, in random order.
    rounds = np.concatenate([np.arange(size) for size in sizes])
    turns = np.repeat(random.permutation(len(sizes)), sizes)
    return order[np.lexsort((turns, rounds))][:count]


def check_real(name: str, images: np.ndarray, preprocessing: Preprocessing | None = None) -> None:
    """Raises an InputError if images, float32 [n, h, w, c], are noise or not preprocessed.

    Ranges that are measured on noise, or on pixels of 0..255 where the network takes -1..1, are
    not those of any image that the file will see.
    """
    images = images[:_LOOKED_AT]
    if preprocessing is not None:
        pixels = preprocessing.undo(images)
        low, high = float(pixels.min()), float(pixels.max())
        span = np.ptp(pixels, axis=(0, 1, 2)).max()
        if low < _LOWEST or high > _HIGHEST or span < _LEAST_SPAN:
            raise InputError(
                f"{name} must be preprocessed as in training: values from {images.min():.4g} to"
                f" {images.max():.4g} stand for pixels from {low:.4g} to {high:.4g}, which are to"
                " be from 0 to 255."
            )
    if (found := neighbour_correlation(images)) < _LEAST_CORRELATION:
        raise InputError(
            f"{name} must be real images, got noise: neighbouring pixels correlate by {found:.3f},"
            " those of Fashion-MNIST by 0.88."
        )


def neighbour_correlation(images: np.ndarray) -> float:
    """How much a pixel says of the one to its right and of the one below, 1 for all and 0 for none.

    Args:
        images: float [n, height, width, channels]. Means are those of the whole set: of images
            that are each of one colour, a pixel says all of its neighbours.
    """
    x = images - images.mean(axis=(0, 1, 2), dtype=np.float64).astype(images.dtype)
    pairs = [(x[:, 1:], x[:, :-1]), (x[:, :, 1:], x[:, :, :-1])]
    variance = np.mean(np.square(x), dtype=np.float64)
    if not variance:
        return 1.0
    shared = [np.mean(a * b, dtype=np.float64) for a, b in pairs if a.size]
    return float(np.mean(shared) / variance) if shared else 1.0


def check_draw(count: Any, seed: Any, names: tuple[str, str] = ("count", "seed")) -> None:
    """Raises an InputError unless so many images can be drawn by the seed; it has the names."""
    check_positive_int(names[0], count)
    if not 0 <= check_int(names[1], seed) < 2**32:
        raise InputError(f"{names[1]} must be from 0 to {2**32 - 1}, got {seed}.")


Read = Callable[["Examples"], tuple[np.ndarray, np.ndarray]]


def _reader(
    source: Run | ImageData,
    split: str,
    shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing | None,
) -> tuple[Examples, Read]:
    """The images of a split as they are stored, and what makes arrays of some of them."""
    from keras_archs.training.data import Augmentation, make_batches  # noqa: PLC0415  # see above

    if hasattr(source, "arrays"):
        run = cast("Run", source)

        def of_run(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
            splits = {**run.data.splits, split: examples}
            part = replace(run, data=replace(run.data, splits=splits))
            return part.arrays(split, len(examples))

        return run.data.splits[split], of_run

    if shape is None:
        raise InputError("image_shape must be (height, width, channels) for a dataset, got None.")

    def of_data(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        batches: Any = make_batches(
            examples,
            image_size=shape[:2],
            channels=shape[2],
            classes=len(source.class_names),
            batch_size=64,
            preprocess=preprocessing or (lambda images: images),
            training=False,
            seed=0,
            augmentation=Augmentation(),
        )
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels).argmax(axis=1)

    return source.splits[split], of_data


def _only(examples: Examples, chosen: np.ndarray) -> Examples:
    """Those examples alone, in their own order; the others are passed over undecoded."""
    keep = tf.constant(np.isin(np.arange(len(examples)), chosen))
    encoded = (
        examples.encoded.enumerate()
        .filter(lambda index, _: keep[index])
        .map(lambda _, example: example)
        .apply(tf.data.experimental.assert_cardinality(len(chosen)))
    )
    return replace(examples, encoded=encoded)


def as_seen(images: np.ndarray, inside: Preprocessing | None) -> np.ndarray:
    """Preprocessed images as a file takes them: pixels of 0..255 if it does `inside` itself."""
    return images if inside is None else np.clip(inside.undo(images), 0, 255)
