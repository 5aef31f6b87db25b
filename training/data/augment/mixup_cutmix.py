"""MixUp and CutMix: combine pairs of images of a batch, and their labels."""

import tensorflow as tf


def mix(
    images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, *, mixup: float, cutmix: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image with its neighbour, by MixUp or by CutMix for the whole batch.

    Neighbours are the first and second image, the third and fourth, and so on. A batch that is
    divided among workers in parts of even size is therefore mixed like the whole batch. The last
    image of an odd number is mixed with the image before it.

    Args:
        images: float32 `[b, height, width, channels]`.
        labels: float32 `[b, classes]`; each row sums to 1.
        key: int `[2]`. The draws depend on nothing else.
        mixup: alpha of Beta(alpha, alpha), from which an image's share is drawn (Zhang et al.
            2018). 0 turns MixUp off. `mixup`, `cutmix` or both must be above 0.
        cutmix: the same for the share of the area (Yun et al. 2019). If both are above 0, each
            has a probability of 1/2.
    """
    keys = tf.random.split(key, 3)
    toss, *centre = tf.unstack(tf.random.stateless_uniform([3], keys[0]))

    def apply_mixup() -> tuple[tf.Tensor, tf.Tensor]:
        share = _beta(mixup, keys[1])
        return _blend(images, share), share

    def apply_cutmix() -> tuple[tf.Tensor, tf.Tensor]:
        inside = _box(images.shape[1], images.shape[2], _beta(cutmix, keys[2]), centre)
        share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32))
        return tf.where(inside[..., None], _neighbours(images), images), share

    if mixup and cutmix:
        images, share = tf.cond(toss < 0.5, apply_mixup, apply_cutmix)
    else:
        images, share = apply_mixup() if mixup else apply_cutmix()
    return images, _blend(labels, share)


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * values + (1 - share) * _neighbours(values)


def _neighbours(values: tf.Tensor) -> tf.Tensor:
    size = tf.shape(values)[0]
    places = tf.range(size)
    partners = tf.bitwise.bitwise_xor(places, 1)
    return tf.gather(values, tf.where(partners < size, partners, tf.maximum(places - 1, 0)))


def _beta(alpha: float, key: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(alpha, alpha) by two gamma draws."""
    # In float32, small alphas could make both gamma draws 0.
    first, second = tf.unstack(
        tf.random.stateless_gamma([2], key, tf.constant(alpha, tf.float64), dtype=tf.float64)
    )
    return tf.cast(first / (first + second), tf.float32)


def _box(height: int, width: int, share: tf.Tensor, centre: list[tf.Tensor]) -> tf.Tensor:
    """Returns a bool mask `[height, width]` of a rectangle that leaves `share` of the area.

    The centre can be anywhere in the image. The rectangle is clipped at the image's edges, so the
    remaining share can be larger.
    """
    sides = []
    for size, place in zip((height, width), centre, strict=True):
        half = tf.floor(size * tf.sqrt(1 - share)) / 2
        middle = tf.floor(place * size)
        positions = tf.range(size, dtype=tf.float32)
        sides.append((positions >= tf.floor(middle - half)) & (positions < tf.floor(middle + half)))
    return sides[0][:, None] & sides[1][None]
