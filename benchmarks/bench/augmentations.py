"""Compares augmentation of images in memory with Keras' preprocessing layers."""

from typing import Any

BATCH, SIZE, CLASSES = 32, 224, 10
OURS, KERAS = "ours", "keras.layers"


def candidates(count: int) -> dict[str, dict[str, Any]]:
    """Makes datasets of an epoch of `count` images, by augmentation and package.

    Our augmentation processes single images and mixes batches. Keras' layers process batches, as
    in its guides.
    """
    import keras  # noqa: PLC0415  # after the timing of imports
    import numpy as np  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    from training.data import Augmentation  # noqa: PLC0415

    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (count, SIZE, SIZE, 3), dtype="uint8")
    labels = np.eye(CLASSES, dtype="float32")[numbers.integers(CLASSES, size=count)]
    data = tf.data.Dataset.from_tensor_slices((images, labels))

    def ours(**settings: Any) -> Any:
        augmentation = Augmentation(**settings)

        def augment(place: Any, example: Any) -> tuple[Any, Any, Any]:
            key = tf.stack([tf.constant(0, tf.int64), place])
            return augmentation.apply(example[0], key), example[1], key

        def mix(batch: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
            return augmentation.mix(tf.cast(batch, tf.float32), labels, keys[0])

        batches = data.enumerate().map(augment, tf.data.AUTOTUNE).batch(BATCH)
        return batches.map(mix, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def peer(layer: Any) -> Any:
        def call(batch: Any, labels: Any) -> Any:
            batch = tf.cast(batch, tf.float32)
            return layer({"images": batch, "labels": labels}, training=True)

        return data.batch(BATCH).map(call, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    layers, pixels = keras.layers, {"value_range": (0, 255)}
    return {
        "RandAugment": {
            OURS: ours(augment="randaugment"),
            KERAS: peer(layers.RandAugment(num_ops=2, factor=0.9, **pixels)),
        },
        "Random Erasing": {
            OURS: ours(random_erasing=0.25),
            KERAS: peer(layers.RandomErasing(factor=(0.25, 0.25), **pixels)),
        },
        "MixUp": {OURS: ours(mixup=0.2), KERAS: peer(layers.MixUp(alpha=0.2))},
        "CutMix": {OURS: ours(cutmix=1.0), KERAS: peer(layers.CutMix(factor=1.0))},
    }
