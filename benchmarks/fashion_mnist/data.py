"""Converts the idx files of Fashion-MNIST (70,000 images) to TFRecord files."""

import gzip
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError
from keras_archs.files import atomic_file
from training.data.fashion_mnist_small.builder import CLASS_NAMES
from training.data.fashion_mnist_small.idx import parse_idx
from training.data.readers.tfrecord import IMAGE, LABEL, TEXT

FILES = {"train": "train", "test": "t10k"}


def read(source: Path, split: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads the first `count` images and labels of train or test.

    Returns:
        uint8 images `[n, 28, 28]` and uint8 labels `[n]`.

    Raises:
        InputError: a file is missing.
    """
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        path = source / f"{FILES[split]}-{kind}-ubyte.gz"
        if not path.is_file():
            raise InputError(
                f"source: {str(path)!r} does not exist; install Debian's package"
                " dataset-fashion-mnist, or download it from"
                " github.com/zalandoresearch/fashion-mnist."
            )
        arrays.append(parse_idx(gzip.decompress(path.read_bytes()))[:count])
    return arrays[0], arrays[1]


def write(images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Writes images as PNG records for `--dataset tfrecord:`."""
    with atomic_file(path) as file, tf.io.TFRecordWriter(file.name) as writer:
        for image, label in zip(images, labels, strict=True):
            encoded = tf.io.encode_png(image[..., None]).numpy()
            feature = {
                IMAGE: _bytes(encoded),
                LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
                TEXT: _bytes(CLASS_NAMES[label].encode()),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
