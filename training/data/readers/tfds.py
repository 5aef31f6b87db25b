"""Reads datasets of TensorFlow Datasets (TFDS)."""

import re
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_archs.errors import InputError, did_you_mean

from ..image_data import SPLITS, Announce, Examples, ImageData, require_classes
from .shards import check_shards


class UnknownDatasetError(InputError):
    """TFDS does not have a dataset of this name."""


def open_tfds(spec: str, *, data_dir: Path | str | None, announce: Announce) -> ImageData:
    """Opens TFDS dataset `spec` (`name[/config][:version]`) and prepares it first if necessary.

    Raises:
        UnknownDatasetError: the dataset does not exist.
        InputError: the dataset does not classify uint8 images, cannot be prepared, or has a missing
            or truncated shard.
    """
    builder = _find(spec, data_dir)
    image, label = _supervised_features(spec, builder)
    announce(tuple(label.names), image.shape)
    if not builder.is_prepared():
        _prepare(spec, builder)
        builder = _find(spec, data_dir)
    return _open(spec, builder)


def open_tfds_folder(folder: str, *, name: str, announce: Announce) -> ImageData:
    """Opens the version folder of a prepared TFDS dataset, in any format.

    Raises:
        InputError: the folder is not such a folder, the dataset does not classify uint8 images, or
            a shard is missing or truncated.
    """
    try:
        builder = tfds.builder_from_directory(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"dataset {name!r}: {folder} is not a TFDS dataset folder with dataset_info.json and"
            f" features.json: {_in_one_line(error)}"
        ) from error
    image, label = _supervised_features(name, builder)
    announce(tuple(label.names), image.shape)
    return _open(name, builder)


def _open(name: str, builder: tfds.core.DatasetBuilder) -> ImageData:
    image, label = _supervised_features(name, builder)
    if "train" not in builder.info.splits:
        raise InputError(
            f"dataset {name!r} has no train split, only {', '.join(builder.info.splits)}"
        )
    check_shards(name, builder)
    labelled_splits = {
        split
        for split in SPLITS
        if split in builder.info.splits and _is_labelled(builder, split, image)
    }
    return ImageData(
        name=name,
        class_names=tuple(label.names),
        image_shape=image.shape,
        splits={
            split: _read(builder, tfds_slice, image)
            for split, tfds_slice in slices(labelled_splits).items()
        },
    )


def slices(available: Collection[str]) -> dict[str, str]:
    """The TFDS slice of each split: the split itself, or a tenth of train if not `available`."""
    missing = [split for split in SPLITS[1:] if split not in available]
    end = 100 - 10 * len(missing)
    held_out = {
        split: f"train[{end + 10 * i}%:{end + 10 * (i + 1)}%]" for i, split in enumerate(missing)
    }
    return {"train": f"train[:{end}%]", "validation": "validation", "test": "test"} | held_out


def _find(spec: str, data_dir: Path | str | None) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(spec, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        name = re.split("[/:]", spec)[0]
        known = tfds.list_builders(with_community_datasets=False)
        raise UnknownDatasetError(
            f"dataset: TFDS has no dataset named {name!r}.{did_you_mean(name, known)} Allowed are a"
            " TFDS name, image_folder:PATH, tfrecord:PATTERN and tfds_folder:PATH"
        ) from error
    # TFDS' errors have no common type: a wrong version raises AssertionError, a wrong config
    # ValueError, a missing package of a single dataset ImportError.
    except (AssertionError, ValueError, ImportError) as error:
        raise UnknownDatasetError(
            f"dataset {spec!r} is not a TFDS dataset, image_folder:PATH, tfrecord:PATTERN or"
            f" tfds_folder:PATH: {_in_one_line(error)}"
        ) from error


def _supervised_features(
    spec: str, builder: tfds.core.DatasetBuilder
) -> tuple[tfds.features.Image, tfds.features.ClassLabel]:
    match builder.info.supervised_keys:
        case (str(image_key), str(label_key)):
            image, label = builder.info.features[image_key], builder.info.features[label_key]
            if (
                isinstance(image, tfds.features.Image)
                and isinstance(label, tfds.features.ClassLabel)
                and image.tf_dtype == tf.uint8
                and image.shape[-1] in (1, 3)
            ):
                require_classes(spec, label.names)
                return image, label
    raise InputError(
        f"dataset {spec!r} does not pair uint8 images of 1 or 3 channels with one class each;"
        f" its features are {', '.join(builder.info.features)}"
    )


def _prepare(spec: str, builder: tfds.core.DatasetBuilder) -> None:
    if not sys.stderr.isatty():  # progress bars would fill a notebook or a log file
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:
        # If two processes prepare a dataset at once, the second cannot rename its copy: the
        # first's copy is already there.
        if not builder.is_prepared():
            request = getattr(error, "request", None)  # errors of the requests package have one
            address = f" {request.url} cannot be downloaded:" if request else ""
            raise InputError(
                f"dataset {spec!r}: TFDS cannot prepare the dataset. This needs a network"
                " connection, or a data_dir (--data-dir) that already has"
                f" {builder.info.full_name}; copy its folder from another machine to"
                f" {builder.data_dir}.{address} {_in_one_line(error)}"
            ) from None  # the errors before it would add only a page of traceback


def _read(builder: tfds.core.DatasetBuilder, split: str, image: tfds.features.Image) -> Examples:
    """Reads a split without decoding its images."""
    image_key, label_key = builder.info.supervised_keys
    decoders = {image_key: tfds.decode.SkipDecoding()}
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        source = builder.as_data_source(split, decoders=decoders)
        return _by_index(source, image_key, label_key, image.shape[-1])
    encoded = builder.as_dataset(
        split,
        as_supervised=True,
        decoders=decoders,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    whole = builder.info.splits[split.partition("[")[0]]  # the size of a slice is unknown
    return Examples(
        encoded,
        lambda content, label: (content, label),
        image.shape[-1],
        encoded_bytes=1 + whole.num_bytes // max(1, whole.num_examples),
    )


def _by_index(source: Any, image_key: str, label_key: str, channels: int) -> Examples:
    """Reads ArrayRecord files, which TFDS reads by index, not as a `tf.data.Dataset`."""

    def fetch(index: np.ndarray) -> tuple[bytes, Any]:
        example = source[int(index)]
        return example[image_key], np.int64(example[label_key])

    def content(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        file, label = tf.numpy_function(fetch, [index], [tf.string, tf.int64], stateful=False)
        return tf.ensure_shape(file, []), tf.ensure_shape(label, [])

    return Examples(tf.data.Dataset.range(len(source)), content, channels, encoded_bytes=8)


def _is_labelled(builder: tfds.core.DatasetBuilder, split: str, image: tfds.features.Image) -> bool:
    """Whether a split has labels. TFDS labels test images of unpublished class with -1."""
    examples = _read(builder, split, image)
    return all(label >= 0 for _, label in examples.encoded.take(1).map(examples.content))


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300)
