"""Augmentation of training images, and the centre crop for evaluation.

The augmentation uses plain TensorFlow operations. Each draw is a function of an image's key. Keras'
preprocessing layers follow the global dtype policy, which also affects the labels, and hold state.
Keras' RandAugment runs all its operations on each call.
"""

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ..crop_windows import Choose, centre_window, random_window
from .mixup_cutmix import mix
from .operations import randaugment, trivialaugment

Crop = Literal["none", "shift", "resized"]
Policy = Literal["none", "randaugment", "trivialaugment"]

_ASPECT = (3 / 4, 4 / 3)
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
# Each kind of draw has its own key, so one setting does not change the draws of the others.
_WINDOW, _POLICY, _TOSS, _ERASING, _NOISE, _MIXING = range(1, 7)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings. The defaults do not change images.

    Attributes:
        flip: mirror each image, left to right, with probability 1/2.
        crop: "shift" pads each image with zeros, by a sixteenth of its side, and crops it to its
            size at a random position. "resized" crops a window of random size, see
            `random_window`.
        crop_scale: smallest share of the image's area for "resized". The largest is 1.
        test_crop: side of the centred square crop for evaluation, as a share of the shorter side.
            None means 0.875 with "resized", and otherwise the whole image.
        augment: RandAugment or TrivialAugment, see `operations`.
        randaugment_layers: number of operations applied to each image.
        randaugment_magnitude: 0 to 10.
        random_erasing: probability that a rectangle is replaced by noise (Zhong et al. 2020). The
            sizes are those of timm and torchvision.
        mixup: see `mixup_cutmix`.
        cutmix: see `mixup_cutmix`.
    """

    flip: bool = False
    crop: Crop = "none"
    crop_scale: float = 0.08
    test_crop: float | None = None
    augment: Policy = "none"
    randaugment_layers: int = 2
    randaugment_magnitude: float = 9.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def sees_whole_images(self) -> bool:
        """Whether training images are resized without a crop."""
        return self.crop != "resized"

    @property
    def test_share(self) -> float | None:
        """Side of the centre crop for evaluation, as a share of the shorter side; None: no crop."""
        return self.test_crop or (0.875 if self.crop == "resized" else None)

    @property
    def test_window(self) -> Choose | None:
        """The crop window for evaluation; None for the whole image."""
        share = self.test_share
        return (lambda height, width: centre_window(height, width, share)) if share else None

    def window(self, key: tf.Tensor) -> Choose | None:
        """The crop window of a training image; None for the whole image."""
        if self.sees_whole_images:
            return None
        key = _derive_key(key, _WINDOW)
        area = (self.crop_scale, 1.0)
        return lambda height, width: random_window(height, width, key, area=area, aspect=_ASPECT)

    def apply(self, image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Augments a training image, uint8 `[size, size, channels]`, by the draws of its key."""
        toss, *offset = tf.unstack(tf.random.stateless_uniform([3], key))
        if self.flip:
            # For uint8 images, `tf.where` and a slice with step -1 take 15 times as long.
            image = tf.cond(toss < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        if self.crop == "shift":
            image = _shift(image, offset)
        if self.augment == "randaugment":
            layers, magnitude = self.randaugment_layers, self.randaugment_magnitude
            image = randaugment(image, _derive_key(key, _POLICY), layers, magnitude)
        elif self.augment == "trivialaugment":
            image = trivialaugment(image, _derive_key(key, _POLICY))
        if self.random_erasing:
            image = _erase(image, key, self.random_erasing)
        return image

    def mix(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes a training batch, float32 `[b, size, size, channels]`, and its one-hot labels."""
        if not (self.mixup or self.cutmix):
            return images, labels
        key = _derive_key(key, _MIXING)
        return mix(images, labels, key, mixup=self.mixup, cutmix=self.cutmix)


def _derive_key(key: tf.Tensor, kind: int) -> tf.Tensor:
    """Derives the key of one kind of draw from an image's key.

    The second number of an image's key is its position, which never reaches 2**48.
    `tf.random.fold_in` would also work, but each call costs a twentieth of decoding a JPEG.
    """
    return tf.cast(key, tf.int64) + tf.constant([0, kind << 48], tf.int64)


def _shift(image: tf.Tensor, offset: list[tf.Tensor]) -> tf.Tensor:
    size, margin = image.shape, image.shape[0] // 16
    padded = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]])
    top, left = (tf.cast(draw * (2 * margin + 1), tf.int32) for draw in offset)
    return tf.slice(padded, [top, left, 0], size)


def _erase(image: tf.Tensor, key: tf.Tensor, probability: float) -> tf.Tensor:
    """Replaces a rectangle by uniform noise with a given probability.

    Each pixel and each channel gets its own noise.
    """
    height, width, _ = image.shape
    place = _derive_key(key, _ERASING)

    def erased() -> tf.Tensor:
        top, left, h, w = tf.unstack(
            random_window(height, width, place, area=_ERASED_AREA, aspect=_ERASED_ASPECT)
        )
        rows, columns = tf.range(height)[:, None], tf.range(width)
        inside = (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)
        shape = tf.stack([h, w, image.shape[-1]])
        noise = tf.random.stateless_uniform(shape, _derive_key(key, _NOISE), 0, 256, tf.int32)
        around = [[top, height - top - h], [left, width - left - w], [0, 0]]
        return tf.where(inside[..., None], tf.pad(tf.cast(noise, tf.uint8), around), image)

    toss = tf.random.stateless_uniform([], _derive_key(key, _TOSS))
    return tf.cond(toss < probability, erased, lambda: image)
