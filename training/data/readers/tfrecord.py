"""Reads TFRecord files with the features of TensorFlow's ImageNet scripts."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from keras_archs.display.quiet import quiet
from keras_archs.errors import InputError

from ..decode.decode import CHANNELS, find_flaw, reason, report_flaws
from ..image_data import SPLITS, Announce, Examples, ImageData, require_classes
from .shards import check_files

IMAGE, LABEL, TEXT = "image/encoded", "image/class/label", "image/class/text"
COUNT = "image/channels"
NAMES = "image-class-label.labels.txt"
"""File of class names that TFDS writes next to records with this label feature."""
_SCAN_BATCH = 256


class _Record(NamedTuple):
    place: str
    label: int
    text: str
    channels: int
    flaw: str | None


def open_tfrecord(pattern: str, *, name: str, skip_corrupt: bool, announce: Announce) -> ImageData:
    """Opens the records of all files that the glob `pattern` matches, sorted by file name.

    `{split}` in `pattern` matches train, validation and test. If a split has no file, one of every
    ten training records is held out for it, from the end of the ten.

    The classes are those of the file `NAMES` next to the training records, which `data prepare`
    writes. Without this file, the number of classes is the largest label plus one, and
    `image/class/text` names them where a record has it.

    Images are gray if all records have 1 in `image/channels`. The function decodes every record
    once, so a corrupt record cannot stop a training run later.

    Raises:
        InputError: no file matches; a file is missing, empty or unreadable; a feature is missing or
            wrong; a label has no class; or images are corrupt.
    """
    files = _find_files(pattern, name)
    # pathlib would break the addresses of buckets, for example gs://.
    names_file = os.path.join(os.path.dirname(files["train"][0]), NAMES)  # noqa: PTH118, PTH120
    names = _read_names(names_file, name) if tf.io.gfile.exists(names_file) else None
    announce(names, (None, None, _first_channels(files["train"][0], name)))
    with quiet():
        records = {split: list(_scan(files[split], name)) for split in files}
    all_records = [record for split in records.values() for record in split]
    flaws = {record.place: record.flaw for record in all_records if record.flaw}
    report_flaws(name, flaws, total=len(all_records), skip_corrupt=skip_corrupt)
    if names is None:
        class_names = _name_classes(records, name)
    else:
        _check_labels(names, names_file, records, name)
        class_names = names
    require_classes(name, class_names)

    missing = [split for split in SPLITS if split not in files]
    intact = {split: np.array([not r.flaw for r in records[split]], bool) for split in records}
    turn = np.arange(len(intact["train"])) % 10 - (10 - len(missing))
    masks = {split: (files[split], intact[split]) for split in files}
    masks["train"] = files["train"], intact["train"] & (turn < 0)
    for i, split in enumerate(missing):
        masks[split] = files["train"], intact["train"] & (turn == i)
    channels = 1 if all(record.channels == 1 for record in all_records) else CHANNELS
    return ImageData(
        name=name,
        class_names=class_names,
        image_shape=(None, None, channels),
        splits={split: _read(*part, channels) for split, part in masks.items()},
    )


def _find_files(pattern: str, name: str) -> dict[str, list[str]]:
    splits = SPLITS if "{split}" in pattern else SPLITS[:1]
    patterns = {split: pattern.replace("{split}", split) for split in splits}
    files = {split: sorted(tf.io.gfile.glob(patterns[split])) for split in splits}
    if not files["train"]:
        raise InputError(f"dataset {name!r}: no file matches {patterns['train']!r}")
    for split in splits:
        check_files(name, files[split], patterns[split])
    return {split: paths for split, paths in files.items() if paths}


def _scan(files: Sequence[str], name: str) -> Iterator[_Record]:
    """Reads, checks and decodes every record."""
    with ThreadPoolExecutor() as pool:
        for file in files:
            index = 0
            for batch in _batches(file, name, _SCAN_BATCH):
                examples = [_parse(record, f"dataset {name!r}: {file}") for record in batch]
                reasons = pool.map(find_flaw, [encoded for encoded, *_ in examples])
                for (_, label, text, channels), flaw in zip(examples, reasons, strict=True):
                    yield _Record(f"{file} record {index}", label, text, channels, flaw)
                    index += 1


def _first_channels(file: str, name: str) -> int:
    """Number of channels of the first record's image. The later scan checks all records."""
    for batch in _batches(file, name, 1):
        return _parse(batch[0], f"dataset {name!r}: {file}")[-1]
    return CHANNELS


def _batches(file: str, name: str, size: int) -> Iterator[np.ndarray]:
    try:
        yield from tf.data.TFRecordDataset(file).batch(size).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise InputError(
            f"dataset {name!r}: {file} is truncated or not an uncompressed TFRecord file:"
            f" {reason(error)}"
        ) from error


def _parse(record: bytes, where: str) -> tuple[bytes, int, str, int]:
    """Returns a record's encoded image, label, class name ("" if missing) and channels."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{where} has a record that is not a tf.train.Example") from error
    # A feature that is missing or has another type reads as an empty list.
    encoded, labels = features[IMAGE].bytes_list.value, features[LABEL].int64_list.value
    if len(encoded) != 1:
        raise InputError(f"{where} has a record without feature {IMAGE!r} (one string of bytes)")
    if len(labels) != 1 or labels[0] < 0:
        raise InputError(
            f"{where} has a record without feature {LABEL!r} (one int64 of at least 0)"
        )
    text = b"".join(features[TEXT].bytes_list.value)
    channels = next(iter(features[COUNT].int64_list.value), CHANNELS)
    return encoded[0], labels[0], text.decode(errors="replace"), channels


def _name_classes(records: dict[str, list[_Record]], name: str) -> tuple[str, ...]:
    texts: dict[int, str] = {}
    for record in records["train"]:
        texts.setdefault(record.label, record.text)
    count = max(texts, default=-1) + 1
    # Labels that are hashes or identifiers would make a network with that many outputs.
    if count > len(records["train"]) + 1:
        raise InputError(
            f"dataset {name!r}: {LABEL!r} is up to {count - 1}, but there are only"
            f" {len(records['train'])} training records. Labels must be 0 to n - 1, or 1 to n, for"
            " n classes."
        )
    for split, split_records in records.items():
        unknown = {record.label for record in split_records} - texts.keys()
        if unknown:
            raise InputError(
                f"dataset {name!r}: {split} has label {min(unknown)}, which the training"
                " records do not have"
            )
    return tuple(texts.get(label) or str(label) for label in range(count))


def _read_names(file: str, name: str) -> tuple[str, ...]:
    try:
        return tuple(tfds.features.ClassLabel(names_file=file).names)
    except ValueError as error:
        raise InputError(f"dataset {name!r}: {file} does not name classes: {error}") from error


def _check_labels(
    names: tuple[str, ...], file: str, records: dict[str, list[_Record]], name: str
) -> None:
    for split, split_records in records.items():
        largest = max((record.label for record in split_records), default=-1)
        if largest >= len(names):
            raise InputError(
                f"dataset {name!r}: {split} has label {largest}, but {file} names {len(names)}"
                " classes"
            )


def _read(files: Sequence[str], keep: np.ndarray, channels: int) -> Examples:
    """Reads the records for which `keep`, bool `[records]`, is true."""
    mask = tf.constant(keep)
    records = (
        tf.data.TFRecordDataset(files)
        .enumerate()
        .filter(lambda index, _: mask[index])
        .map(lambda _, record: record)
        .apply(tf.data.experimental.assert_cardinality(keep.sum()))
    )
    size = sum(tf.io.gfile.stat(file).length for file in files)
    return Examples(records, _content, channels, encoded_bytes=1 + size // len(keep))


def _content(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    features = tf.io.parse_single_example(
        record,
        {
            IMAGE: tf.io.FixedLenFeature([], tf.string),
            LABEL: tf.io.FixedLenFeature([], tf.int64),
        },
    )
    return features[IMAGE], features[LABEL]
