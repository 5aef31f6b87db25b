"""Datasets of TensorFlow Datasets (TFDS)."""

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

from .image_data import SPLITS, Announce, Examples, ImageData, require_classes
from .shards import check_shards


class UnknownDatasetError(InputError):
    """TFDS knows no dataset of this name."""


def open_tfds(spec: str, *, data_dir: Path | str | None, announce: Announce) -> ImageData:
    """Open TFDS dataset `spec` (`name[/config][:version]`), preparing it first if need be.

    Raises:
        UnknownDatasetError: no such dataset.
        InputError: no classification of uint8 images, it can't be prepared, or a shard is missing
            or truncated.
    """
    builder = _find(spec, data_dir)
    image, label = _supervised_features(spec, builder)
    announce(tuple(label.names), image.shape)
    if not builder.is_prepared():
        _prepare(spec, builder)
        builder = _find(spec, data_dir)
    return _open(spec, builder)


def open_tfds_folder(folder: str, *, name: str, announce: Announce) -> ImageData:
    """Open the folder of a dataset's version that TFDS has prepared, in whatever format.

    Raises:
        InputError: it is none, no classification of uint8 images, or a shard is missing or
            truncated.
    """
    try:
        builder = tfds.builder_from_directory(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"dataset {name!r}: {folder} is no dataset of TFDS, which has dataset_info.json and "
            f"features.json: {_in_one_line(error)}"
        ) from error
    image, label = _supervised_features(name, builder)
    announce(tuple(label.names), image.shape)
    return _open(name, builder)


def _open(name: str, builder: tfds.core.DatasetBuilder) -> ImageData:
    image, label = _supervised_features(name, builder)
    if "train" not in builder.info.splits:
        raise InputError(
            f"dataset {name!r}: it has no train split, only {', '.join(builder.info.splits)}"
        )
    check_shards(name, builder)
    own = {
        split
        for split in SPLITS
        if split in builder.info.splits and _is_labelled(builder, split, image)
    }
    return ImageData(
        name=name,
        class_names=tuple(label.names),
        image_shape=image.shape,
        splits={split: _read(builder, where, image) for split, where in slices(own).items()},
    )


def slices(own: Collection[str]) -> dict[str, str]:
    """Where each split is read from: its own, or a tenth of train if it is not among `own`."""
    missing = [split for split in SPLITS[1:] if split not in own]
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
            f"dataset: no TFDS dataset is named {name!r}.{did_you_mean(name, known)} Allowed is a "
            "TFDS name, image_folder:PATH or tfrecord:PATTERN"
        ) from error
    # TFDS has no common type of error: a wrong version is an AssertionError, a wrong config a
    # ValueError, a package that this dataset alone needs an ImportError.
    except (AssertionError, ValueError, ImportError) as error:
        raise UnknownDatasetError(
            f"dataset {spec!r} is no TFDS dataset, image_folder:PATH or tfrecord:PATTERN: "
            f"{_in_one_line(error)}"
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
        f"dataset {spec!r}: it does not pair uint8 images of 1 or 3 channels with one class each; "
        f"its features are {', '.join(builder.info.features)}"
    )


def _prepare(spec: str, builder: tfds.core.DatasetBuilder) -> None:
    if not sys.stderr.isatty():  # its bars would fill a notebook or a log file
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Of two processes that prepare a dataset at once, the later one can't rename its copy
        # to where the other's is by now.
        if not builder.is_prepared():
            request = getattr(error, "request", None)  # of requests, by which TFDS downloads
            address = f" {request.url} cannot be downloaded:" if request else ""
            raise InputError(
                f"dataset {spec!r}: TFDS can't prepare it, which needs a network connection or a"
                f" data_dir (--data-dir) that has it as {builder.info.full_name}; copy its folder"
                f" from another machine to {builder.data_dir}.{address} {_in_one_line(error)}"
            ) from None  # the errors before it would be a page of traceback that says no more


def _read(builder: tfds.core.DatasetBuilder, split: str, image: tfds.features.Image) -> Examples:
    """A split whose images are still the bytes of their files."""
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
    whole = builder.info.splits[split.partition("[")[0]]  # the size of a part is unknown
    return Examples(
        encoded,
        lambda content, label: (content, label),
        image.shape[-1],
        encoded_bytes=1 + whole.num_bytes // max(1, whole.num_examples),
    )


def _by_index(source: Any, image_key: str, label_key: str, channels: int) -> Examples:
    """ArrayRecord files, which TFDS does not read as a `tf.data.Dataset`, but at any place."""

    def fetch(index: np.ndarray) -> tuple[bytes, Any]:
        example = source[int(index)]
        return example[image_key], np.int64(example[label_key])

    def content(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        file, label = tf.numpy_function(fetch, [index], [tf.string, tf.int64], stateful=False)
        return tf.ensure_shape(file, []), tf.ensure_shape(label, [])

    return Examples(tf.data.Dataset.range(len(source)), content, channels, encoded_bytes=8)


def _is_labelled(builder: tfds.core.DatasetBuilder, split: str, image: tfds.features.Image) -> bool:
    """Whether a split has labels: TFDS gives -1 to test images whose classes are a secret."""
    examples = _read(builder, split, image)
    return all(label >= 0 for _, label in examples.encoded.take(1).map(examples.content))


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300)
