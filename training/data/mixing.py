"""MixUp and CutMix: pairs of images of a batch become one, and so do their labels."""

import tensorflow as tf


def mix(
    images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, *, mixup: float, cutmix: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image with its neighbour, in one of both ways for the whole batch.

    Neighbours are the first and second, the third and fourth and so on: shares of even size of a
    batch are then mixed as all of it would be. The last one of an odd number takes from the one
    before it.

    Args:
        images: float32 `[b, height, width, channels]`.
        labels: float32 `[b, classes]`, summing to 1 each.
        key: int `[2]`; the draws depend on it alone.
        mixup: alpha of the Beta(alpha, alpha) that an image's share is drawn from (Zhang et al.
            2018); 0 for no MixUp. One of both is above 0.
        cutmix: the same for the share of the area (Yun et al. 2019). With both above 0 each has a
            probability of 1/2.
    """
    keys = tf.random.split(key, 3)
    toss, *centre = tf.unstack(tf.random.stateless_uniform([3], keys[0]))

    def mixed_up() -> tuple[tf.Tensor, tf.Tensor]:
        share = _beta(mixup, keys[1])
        return _blend(images, share), share

    def cut() -> tuple[tf.Tensor, tf.Tensor]:
        inside = _box(images.shape[1], images.shape[2], _beta(cutmix, keys[2]), centre)
        kept = 1 - tf.reduce_mean(tf.cast(inside, tf.float32))
        return tf.where(inside[..., None], _neighbours(images), images), kept

    if mixup and cutmix:
        images, share = tf.cond(toss < 0.5, mixed_up, cut)
    else:
        images, share = mixed_up() if mixup else cut()
    return images, _blend(labels, share)


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * values + (1 - share) * _neighbours(values)


def _neighbours(values: tf.Tensor) -> tf.Tensor:
    size = tf.shape(values)[0]
    places = tf.range(size)
    partners = tf.bitwise.bitwise_xor(places, 1)
    return tf.gather(values, tf.where(partners < size, partners, tf.maximum(places - 1, 0)))


def _beta(alpha: float, key: tf.Tensor) -> tf.Tensor:
    """A draw from Beta(alpha, alpha), by the two gamma draws that define it."""
    # In float64, where small alphas have no draws so small that both are 0.
    first, second = tf.unstack(
        tf.random.stateless_gamma([2], key, tf.constant(alpha, tf.float64), dtype=tf.float64)
    )
    return tf.cast(first / (first + second), tf.float32)


def _box(height: int, width: int, share: tf.Tensor, centre: list[tf.Tensor]) -> tf.Tensor:
    """bool `[height, width]`, true in a rectangle that leaves that share of the area.

    Its centre is anywhere; what is outside of the image is cut off, so that more may be left.
    """
    sides = []
    for size, place in zip((height, width), centre, strict=True):
        half = tf.floor(size * tf.sqrt(1 - share)) / 2
        middle = tf.floor(place * size)
        positions = tf.range(size, dtype=tf.float32)
        sides.append((positions >= tf.floor(middle - half)) & (positions < tf.floor(middle + half)))
    return sides[0][:, None] & sides[1][None]
