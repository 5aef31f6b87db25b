"""Shuffled order of an epoch that can start at any position and be shared among workers."""

from typing import Any

import tensorflow as tf

_GROUP = 32


def shuffled(
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
    """Returns a worker's examples at positions `start` to `stop` of an epoch's order.

    The order is random within a block. It is a permutation by index, which can start at any
    position. `Dataset.shuffle` cannot: its state is a buffer and all earlier draws.

    Args:
        block_size: number of examples in each block except the last. With several blocks, it is a
            multiple of the batch size.
        repeats: number of copies of an example in a batch. The copies are as far apart as there
            are different examples in the batch. Neighbours, which are mixed, are therefore always
            different examples, and two workers rarely get the same example. If the batch size is
            not a multiple of `repeats`, some examples have one copy less.

    Returns:
        elements of `(key, *components)`. The key is int64 `[2]`: the epoch's key and the
        position, as `tf.random.fold_in` combines them.
    """

    def shuffle_block(number: tf.Tensor, block: Any) -> tf.data.Dataset:
        parts = tf.nest.flatten(block)
        first = number * block_size
        size = tf.shape(parts[0], tf.int64)[0]
        key = tf.random.fold_in([seed, epoch], number)

        def pick(places: tf.Tensor) -> tuple[tf.Tensor, ...]:
            batch, place = (places - first) // batch_size, (places - first) % batch_size
            drawn = batch * different + place % different
            index = tf.random.experimental.index_shuffle(drawn, key, size - 1)
            mask = places % batch_size * workers // batch_size == worker
            places, index = tf.boolean_mask(places, mask), tf.boolean_mask(index, mask)
            keys = tf.stack([tf.repeat(key[0], tf.size(places)), places], 1)
            return keys, *(tf.gather(part, index) for part in parts)

        places = tf.data.Dataset.range(tf.maximum(first, start), tf.minimum(first + size, stop))
        # In groups: for a single position, TensorFlow's overhead is a tenth of decoding a JPEG.
        return places.batch(_GROUP).map(pick).unbatch()

    worker, workers = shard
    different = -(-batch_size // repeats)
    return blocks.enumerate().skip(start // block_size).flat_map(shuffle_block)
