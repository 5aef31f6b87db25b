"""RandAugment and TrivialAugment: their operations on single images, and the strengths."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

_GRAY = 128
"""Fill value outside the image, as in TensorFlow's and timm's RandAugment."""
_LUMINANCE = (19595, 38470, 7471)
"""Luminance weights of ITU-R BT.601 in 65536ths, as in Pillow."""


class Range(NamedTuple):
    """Strengths from the weakest to the strongest; shares of the image's side if `of_side`."""

    weakest: float
    strongest: float
    of_side: bool = False

    def at(self, share: Any, side: int) -> Any:
        """Interpolates between both strengths by `share`, 0 to 1; in pixels if `of_side`."""
        value = self.weakest + (self.strongest - self.weakest) * share
        return value * side if self.of_side else value


class Operation(NamedTuple):
    """An image operation and its strengths: one row of the table.

    Attributes:
        apply: takes and returns uint8 `[height, width, channels]`, with 1 or 3 channels. The
            second argument is the strength, a float32 scalar.
        randaugment: strengths in RandAugment. They are those of AutoAugment (Cubuk et al. 2019,
            table 6), ordered so that every operation becomes stronger with the magnitude, as in
            torchvision and timm (`inc1`).
        trivialaugment: strengths in TrivialAugment: its wide space (Müller and Hutter 2021,
            section 4) in torchvision's form.
        signed: whether the strength is negated with probability 1/2.
    """

    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    randaugment: Range = Range(0, 0)
    trivialaugment: Range = Range(0, 0)
    signed: bool = False


def identity(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return image


def shear_x(image: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1.0, slope, 0.0, 0.0, 1.0, 0.0])


def shear_y(image: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1.0, 0.0, 0.0, slope, 1.0, 0.0])


def translate_x(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1.0, 0.0, tf.round(pixels), 0.0, 1.0, 0.0])


def translate_y(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1.0, 0.0, 0.0, 0.0, 1.0, tf.round(pixels)])


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotates counterclockwise around the centre."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = image.shape[0] / 2, image.shape[1] / 2
    return _transform(image, [cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos])


def _transform(image: tf.Tensor, inverse: list[Any]) -> tf.Tensor:
    """Fetches each pixel `(x, y)` from `(a x + b y + c, d x + e y + f)`.

    Pixel corners have integer coordinates, as in Pillow's `Image.transform`. TensorFlow's kernel
    counts from pixel centres.
    """
    a, b, c, d, e, f = inverse
    c, f = c + (a + b - 1) / 2, f + (d + e - 1) / 2
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, c, d, e, f, 0.0, 0.0])[None],
        output_shape=image.shape[:2],
        fill_value=float(_GRAY),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]


def brightness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.cast(image, tf.float32) * (1 + change), tf.uint8)


def colour(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    return _blend(_luminance(image), image, change)


def contrast(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.cast(_luminance(image), tf.float32))
    return _blend(tf.floor(mean + 0.5), image, change)


def sharpness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Moves each pixel away from or towards the weighted mean of its 3x3 neighbourhood.

    The pixel itself has weight 5, each neighbour weight 1.
    """
    pixels = tf.cast(image, tf.float32)
    inner = pixels[1:-1, 1:-1]
    means = tf.nn.avg_pool2d(pixels[None], 3, 1, "VALID")[0]
    smooth = tf.round((9 * means + 4 * inner) / 13)
    # Border pixels lack neighbours and do not change.
    return tf.saturate_cast(pixels + tf.pad((inner - smooth) * change, _FRAME), tf.uint8)


_FRAME = [[1, 1], [1, 1], [0, 0]]


def _luminance(image: tf.Tensor) -> tf.Tensor:
    if image.shape[-1] == 1:
        return image
    weighted = tf.tensordot(tf.cast(image, tf.int32), tf.constant(_LUMINANCE), 1)
    return ((weighted + 0x8000) // 0x10000)[..., None]


def _blend(origin: tf.Tensor, image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Moves the image away from the origin, or towards it; at -1 it equals the origin."""
    pixels = tf.cast(image, tf.float32)
    return tf.saturate_cast(pixels + (pixels - tf.cast(origin, tf.float32)) * change, tf.uint8)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest `bits` (rounded) of the eight bits."""
    step = tf.bitwise.left_shift(1, 8 - tf.cast(tf.round(bits), tf.int32))
    return image // tf.cast(step, tf.uint8) * tf.cast(step, tf.uint8)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts values at and above the threshold."""
    return tf.where(tf.cast(image, tf.float32) >= threshold, 255 - image, image)


def autocontrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to the range 0 to 255."""
    pixels = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(pixels, [0, 1]), tf.reduce_max(pixels, [0, 1])
    stretched = (pixels - low) * (255 / tf.maximum(high - low, 1))
    return tf.where(high > low, tf.saturate_cast(stretched, tf.uint8), image)


def equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Equalizes the histogram of each channel, like `PIL.ImageOps.equalize`."""
    channels = tf.transpose(tf.reshape(tf.cast(image, tf.int32), [-1, image.shape[-1]]))
    counts = tf.math.bincount(channels, minlength=256, maxlength=256, axis=-1)
    counts = tf.ensure_shape(counts, [image.shape[-1], 256])
    most = tf.reduce_max(channels, axis=1, keepdims=True)
    step = (channels.shape[1] - tf.gather(counts, most, batch_dims=1)) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    equalized = tf.transpose(tf.gather(table, channels, batch_dims=1))
    return tf.cast(tf.reshape(equalized, image.shape), tf.uint8)


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(identity),
    "AutoContrast": Operation(autocontrast),
    "Equalize": Operation(equalize),
    "Rotate": Operation(rotate, Range(0, 30), Range(0, 135), signed=True),
    "Solarize": Operation(solarize, Range(256, 0), Range(255, 0)),
    "Posterize": Operation(posterize, Range(8, 4), Range(8, 2)),
    "Color": Operation(colour, Range(0, 0.9), Range(0, 0.99), signed=True),
    "Contrast": Operation(contrast, Range(0, 0.9), Range(0, 0.99), signed=True),
    "Brightness": Operation(brightness, Range(0, 0.9), Range(0, 0.99), signed=True),
    "Sharpness": Operation(sharpness, Range(0, 0.9), Range(0, 0.99), signed=True),
    "ShearX": Operation(shear_x, Range(0, 0.3), Range(0, 0.99), signed=True),
    "ShearY": Operation(shear_y, Range(0, 0.3), Range(0, 0.99), signed=True),
    "TranslateX": Operation(translate_x, Range(0, 150 / 331, True), Range(0, 32), signed=True),
    "TranslateY": Operation(translate_y, Range(0, 150 / 331, True), Range(0, 32), signed=True),
}
"""Operations by their names in the papers, which are also Pillow's names."""

TRIVIAL_LEVELS = 31
"""Number of strengths that TrivialAugment draws from."""


def randaugment(image: tf.Tensor, key: tf.Tensor, layers: int, magnitude: float) -> tf.Tensor:
    """Applies `layers` random operations one after another (Cubuk et al. 2020).

    Args:
        image: uint8 `[height, width, channels]`; all dimensions are known.
        key: int `[2]`. The draws depend on nothing else.
        magnitude: strength of all operations, 0 to 10.
    """
    side = image.shape[0]
    strengths = [op.randaugment.at(magnitude / 10, side) for op in OPERATIONS.values()]
    for draws in tf.unstack(tf.random.stateless_uniform([layers, 2], key)):
        image = _one_of(image, draws[0], draws[1], tf.constant(strengths, tf.float32))
    return image


def trivialaugment(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Applies one operation of random strength (Müller and Hutter 2021).

    The arguments are those of `randaugment`.
    """
    which, sign, level = tf.unstack(tf.random.stateless_uniform([3], key))
    share = tf.floor(level * TRIVIAL_LEVELS) / (TRIVIAL_LEVELS - 1)
    side = image.shape[0]
    strengths = [op.trivialaugment.at(share, side) for op in OPERATIONS.values()]
    return _one_of(image, which, sign, tf.stack([tf.cast(s, tf.float32) for s in strengths]))


def _one_of(image: tf.Tensor, which: tf.Tensor, sign: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Applies one operation. `which` and `sign` are uniform draws from 0 to 1.

    The other operations do not run.
    """
    operations = list(OPERATIONS.values())
    index = tf.cast(which * len(operations), tf.int32)
    negative = tf.constant([op.signed for op in operations])[index] & (sign < 0.5)
    strength = tf.where(negative, -strengths[index], strengths[index])
    changed = tf.switch_case(
        index,
        [lambda op=op: op.apply(image, strength) for op in operations],
    )
    return tf.ensure_shape(changed, image.shape)
