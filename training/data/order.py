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
    shard: tuple[int, int],
) -> tf.data.Dataset:
    """The examples at a worker's places from `start` to `stop` of an epoch's order.

    The order is random within a block. Unlike `Dataset.shuffle`, whose state is a buffer and
    whatever it drew before, a permutation by index can be entered anywhere.

    Returns:
        `(epoch, place)`, int64 `[2]`, in front of each example's components.
    """

    def of_block(number: tf.Tensor, block: Any) -> tf.data.Dataset:
        parts = tf.nest.flatten(block)
        first = number * block_size
        size = tf.shape(parts[0], tf.int64)[0]
        key = tf.random.fold_in([seed, epoch], number)

        def pick(places: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if workers > 1:
                share = places % batch_size * workers // batch_size
                places = tf.boolean_mask(places, share == worker)
            index = tf.random.experimental.index_shuffle(places - first, key, size - 1)
            epochs = tf.repeat(epoch, tf.size(places))
            return tf.stack([epochs, places], 1), *(tf.gather(part, index) for part in parts)

        places = tf.data.Dataset.range(tf.maximum(first, start), tf.minimum(first + size, stop))
        # Many at once: for one place alone, TensorFlow's overhead is a tenth of decoding a JPEG.
        return places.batch(_AT_ONCE).map(pick).unbatch()

    worker, workers = shard
    return blocks.enumerate().skip(start // block_size).flat_map(of_block)
