"""Datasets of TensorFlow Datasets (TFDS)."""

import re
import textwrap
from collections.abc import Collection
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_archs.errors import InputError, did_you_mean
from training.data.image_data import SPLITS, Examples, ImageData, require_classes


def open_tfds(spec: str, *, data_dir: Path | str | None) -> ImageData:
    """Open TFDS dataset `spec` (`name[/config][:version]`), preparing it first if need be.

    Raises:
        InputError: no such dataset, no classification of uint8 images, or it can't be prepared.
    """
    builder = _find(spec, data_dir)
    image, label = _supervised_features(spec, builder)
    require_classes(spec, label.names)
    if not builder.is_prepared():
        _prepare(spec, builder)
        builder = _find(spec, data_dir)
    if "train" not in builder.info.splits:
        raise InputError(
            f"dataset {spec!r}: it has no train split, only {', '.join(builder.info.splits)}"
        )
    own = {split for split in builder.info.splits if _is_labelled(builder, split)}
    return ImageData(
        name=spec,
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
        raise InputError(
            f"dataset: no TFDS dataset is named {name!r}.{did_you_mean(name, known)} Allowed is a "
            "TFDS name, image_folder:PATH or tfrecord:PATTERN"
        ) from error
    # TFDS has no common type of error: a wrong version is an AssertionError, a wrong config a
    # ValueError, a package that this dataset alone needs an ImportError.
    except (AssertionError, ValueError, ImportError) as error:
        raise InputError(
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
                return image, label
    raise InputError(
        f"dataset {spec!r}: it does not pair uint8 images of 1 or 3 channels with one class each; "
        f"its features are {', '.join(builder.info.features)}"
    )


def _prepare(spec: str, builder: tfds.core.DatasetBuilder) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Of two processes that prepare a dataset at once, the later one can't rename its copy
        # to where the other's is by now.
        if not builder.is_prepared():
            raise InputError(
                f"dataset {spec!r}: TFDS can't prepare it, which needs a network connection or "
                f"a data_dir (--data-dir) that has it: {_in_one_line(error)}"
            ) from error


def _read(builder: tfds.core.DatasetBuilder, split: str, image: tfds.features.Image) -> Examples:
    """A split whose images are still the bytes of their files."""
    image_key, _ = builder.info.supervised_keys
    encoded = builder.as_dataset(
        split,
        as_supervised=True,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    whole = builder.info.splits[split.partition("[")[0]]  # the size of a part is unknown
    return Examples(
        encoded,
        lambda content, label: (image.decode_example(content), label),
        encoded_bytes=1 + whole.num_bytes // max(1, whole.num_examples),
    )


def _is_labelled(builder: tfds.core.DatasetBuilder, split: str) -> bool:
    """Whether a split has labels: TFDS gives -1 to test images whose classes are a secret."""
    read_config = tfds.ReadConfig(try_autocache=False)
    examples = builder.as_dataset(split, as_supervised=True, read_config=read_config)
    return all(label >= 0 for _, label in examples.take(1))


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300)
