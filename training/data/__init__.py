"""Images and labels: from TFDS, a folder or TFRecords to batches that a network trains on."""

from training.data.augmentation import Augmentation
from training.data.batches import make_batches, steps_in_epoch
from training.data.fashion_mnist_small.builder import FashionMnistSmall
from training.data.image_data import Examples, ImageData
from training.data.sources import open_dataset

__all__ = [
    "Augmentation",
    "Examples",
    "FashionMnistSmall",
    "ImageData",
    "make_batches",
    "open_dataset",
    "steps_in_epoch",
]
