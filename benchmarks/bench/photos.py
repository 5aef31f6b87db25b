"""Makes a folder of JPEGs, and compares our input pipeline with peers on this folder."""

from pathlib import Path
from typing import Any

BATCH, SIZE = 32, 224
GRAIN = 13
"""Standard deviation of the grain, in gray levels."""
OURS = "ours"


def write(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> None:
    """Writes `count` training images in four classes, and a few for the other splits."""
    import numpy as np  # noqa: PLC0415  # after the timing of imports
    from PIL import Image  # noqa: PLC0415

    generator = np.random.default_rng(0)
    for index in range(count + 16):
        split = "train" if index < count else ("validation", "test")[index % 2]
        path = Path(folder, split, f"class{index // 2 % 4}", f"{index}.jpg")
        path.parent.mkdir(exist_ok=True, parents=True)
        # Shapes and grain give files of about 100 kB, ImageNet's average, at ImageNet's usual size.
        coarse = generator.integers(0, 256, (24, 32, 3), dtype="uint8")
        shapes = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        grain = generator.normal(0, GRAIN, (size[1], size[0], 1))
        pixels = np.clip(np.asarray(shapes) + grain, 0, 255).astype("uint8")
        Image.fromarray(pixels).save(path, quality=90)


def ours(folder: Path, size: int = SIZE, batch: int = BATCH, **changes: Any) -> Any:
    """Makes our training batches: random resized crops, half of them flipped."""
    from training.data import Augmentation, make_batches, open_dataset  # noqa: PLC0415

    options = {"augmentation": Augmentation(flip=True, crop="resized"), **changes}
    return make_batches(
        open_dataset(f"image_folder:{folder}").splits["train"],
        image_size=size,
        channels=3,
        classes=4,
        batch_size=batch,
        preprocess=lambda images: images,
        training=True,
        seed=0,
        **options,
    )


def candidates(folder: Path) -> dict[str, Any]:
    """Makes datasets by name. Each yields an epoch when iterated."""
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    def peer(*layers: Any) -> Any:
        augment = keras.Sequential(layers)
        images = keras.utils.image_dataset_from_directory(
            f"{folder}/train", image_size=(256, 256), batch_size=BATCH, verbose=False
        )
        return images.map(lambda x, y: (augment(x, training=True), y), tf.data.AUTOTUNE).prefetch(
            tf.data.AUTOTUNE
        )

    def crop_and_flip() -> tuple[Any, Any]:
        return (
            keras.layers.RandomCrop(SIZE, SIZE, dtype="float32"),
            keras.layers.RandomFlip("horizontal", dtype="float32"),
        )

    zoom = keras.layers.RandomZoom((-0.7, 0.0), (-0.7, 0.0), dtype="float32")
    files = tf.data.Dataset.list_files(f"{folder}/train/*/*.jpg")
    return {
        OURS: ours(folder),
        "image_dataset_from_directory": peer(*crop_and_flip()),
        "image_dataset_from_directory, zoomed": peer(zoom, *crop_and_flip()),
        "decode_jpeg alone": files.map(
            lambda path: tf.io.decode_jpeg(tf.io.read_file(path), 3), tf.data.AUTOTUNE
        ).prefetch(tf.data.AUTOTUNE),
    }
