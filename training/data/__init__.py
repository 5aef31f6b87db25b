"""Opens image datasets (TFDS, folders, TFRecord files) and makes training batches of them."""

from .augment.augmentation import Augmentation
from .batches import make_batches, steps_in_epoch
from .fashion_mnist_small.builder import FashionMnistSmall
from .image_data import Examples, ImageData
from .readers.open_dataset import open_dataset

__all__ = [
    "Augmentation",
    "Examples",
    "FashionMnistSmall",
    "ImageData",
    "make_batches",
    "open_dataset",
    "steps_in_epoch",
]
