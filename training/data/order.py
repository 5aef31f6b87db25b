"""The random order of an epoch, which can be entered anywhere and shared among workers."""

from typing import Any

import tensorflow as tf

_AT_ONCE = 32


def in_order(
    blocks: tf.data.Dataset,
    block_size: int,
    *,
    seed: int,
    epoch: tf.Tensor,
    start: tf.Tensor,
    stop: int,
    batch_size: int,
    repeats: int,
    shard: tuple[int, int],
) -> tf.data.Dataset:
    """The examples at a worker's places from `start` to `stop` of an epoch's order.

    The order is random within a block. Unlike `Dataset.shuffle`, whose state is a buffer and
    whatever it drew before, a permutation by index can be entered anywhere.

    Args:
        block_size: examples in each block but the last; if there are several, a multiple of the
            batch size.
        repeats: places of a batch that have the same example. They are as far from each other as
            there are different ones in the batch: neighbours, which are mixed, never have the
            same, and workers rarely. If the batch does not divide by it, some have one place less.

    Returns:
        in front of each example's components its key, int64 `[2]`: the epoch's and the place. It
        is what `tf.random.fold_in` makes of both.
    """

    def of_block(number: tf.Tensor, block: Any) -> tf.data.Dataset:
        parts = tf.nest.flatten(block)
        first = number * block_size
        size = tf.shape(parts[0], tf.int64)[0]
        key = tf.random.fold_in([seed, epoch], number)

        def pick(places: tf.Tensor) -> tuple[tf.Tensor, ...]:
            batch, place = (places - first) // batch_size, (places - first) % batch_size
            drawn = batch * different + place % different
            index = tf.random.experimental.index_shuffle(drawn, key, size - 1)
            own = places % batch_size * workers // batch_size == worker
            places, index = tf.boolean_mask(places, own), tf.boolean_mask(index, own)
            keys = tf.stack([tf.repeat(key[0], tf.size(places)), places], 1)
            return keys, *(tf.gather(part, index) for part in parts)

        places = tf.data.Dataset.range(tf.maximum(first, start), tf.minimum(first + size, stop))
        # Many at once: for one place alone, TensorFlow's overhead is a tenth of decoding a JPEG.
        return places.batch(_AT_ONCE).map(pick).unbatch()

    worker, workers = shard
    different = -(-batch_size // repeats)
    return blocks.enumerate().skip(start // block_size).flat_map(of_block)
