"""Images and labels: from TFDS, a folder or TFRecords to batches that a network trains on."""

from .augmentation import Augmentation
from .batches import make_batches, steps_in_epoch
from .fashion_mnist_small.builder import FashionMnistSmall
from .image_data import Examples, ImageData
from .sources import open_dataset

__all__ = [
    "Augmentation",
    "Examples",
    "FashionMnistSmall",
    "ImageData",
    "make_batches",
    "open_dataset",
    "steps_in_epoch",
]
