"""Datasets that are TFRecord files with the features of TensorFlow's ImageNet scripts."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from keras_archs.errors import InputError
from keras_archs.quiet import quiet

from .encoded import CHANNELS, find_flaw, reason, report_flaws
from .image_data import SPLITS, Announce, Examples, ImageData, require_classes
from .shards import check_files

IMAGE, LABEL, TEXT = "image/encoded", "image/class/label", "image/class/text"
COUNT = "image/channels"
NAMES = "image-class-label.labels.txt"
"""What TFDS writes beside records with such a label: the classes' names."""
_SCAN_BATCH = 256


class _Record(NamedTuple):
    place: str
    label: int
    text: str
    channels: int
    flaw: str | None


def open_tfrecord(pattern: str, *, name: str, skip_corrupt: bool, announce: Announce) -> ImageData:
    """Open the records of the files that glob `pattern` matches, in the order of their names.

    `{split}` in `pattern` stands for train, validation and test. Of every ten training records
    the last ones are held out for the splits that have no file. The classes are those of the file
    `NAMES` beside the training records, if there is one, as `data prepare` writes it. If not, there
    are as many as the largest label plus one, named by `image/class/text` where records have it.
    Images are gray if all records have 1 for `image/channels`. Every record is decoded once here,
    so that no corrupt one ends a training run half way.

    Raises:
        InputError: no file matches, one is missing, empty or can't be read, a feature is missing or
            wrong, a label has no class, or images are corrupt.
    """
    files = _find_files(pattern, name)
    # Of a bucket, such as gs://, pathlib makes no path that TensorFlow opens.
    stored = os.path.join(os.path.dirname(files["train"][0]), NAMES)  # noqa: PTH118, PTH120
    named = _read_names(stored, name) if tf.io.gfile.exists(stored) else None
    announce(named, (None, None, _first_channels(files["train"][0], name)))
    with quiet():
        records = {split: list(_scan(files[split], name)) for split in files}
    every = [record for split in records.values() for record in split]
    flaws = {record.place: record.flaw for record in every if record.flaw}
    report_flaws(name, flaws, total=len(every), skip_corrupt=skip_corrupt)
    if named is None:
        class_names = _name_classes(records, name)
    else:
        _check_labels(named, stored, records, name)
        class_names = named
    require_classes(name, class_names)

    missing = [split for split in SPLITS if split not in files]
    good = {split: np.array([not r.flaw for r in records[split]], bool) for split in records}
    turn = np.arange(len(good["train"])) % 10 - (10 - len(missing))
    chosen = {split: (files[split], good[split]) for split in files}
    chosen["train"] = files["train"], good["train"] & (turn < 0)
    for i, split in enumerate(missing):
        chosen[split] = files["train"], good["train"] & (turn == i)
    channels = 1 if all(record.channels == 1 for record in every) else CHANNELS
    return ImageData(
        name=name,
        class_names=class_names,
        image_shape=(None, None, channels),
        splits={split: _read(*part, channels) for split, part in chosen.items()},
    )


def _find_files(pattern: str, name: str) -> dict[str, list[str]]:
    splits = SPLITS if "{split}" in pattern else SPLITS[:1]
    patterns = {split: pattern.replace("{split}", split) for split in splits}
    files = {split: sorted(tf.io.gfile.glob(patterns[split])) for split in splits}
    if not files["train"]:
        raise InputError(f"dataset {name!r}: no file matches {patterns['train']!r}")
    for split in splits:
        check_files(name, files[split], patterns[split])
    return {split: found for split, found in files.items() if found}


def _scan(files: Sequence[str], name: str) -> Iterator[_Record]:
    """Read, check and decode every record."""
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
    """The channels of the first record's image; only the scan tells whether all have as many."""
    for batch in _batches(file, name, 1):
        return _parse(batch[0], f"dataset {name!r}: {file}")[-1]
    return CHANNELS


def _batches(file: str, name: str, size: int) -> Iterator[np.ndarray]:
    try:
        yield from tf.data.TFRecordDataset(file).batch(size).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise InputError(
            f"dataset {name!r}: {file} is truncated or no uncompressed TFRecord file:"
            f" {reason(error)}"
        ) from error


def _parse(record: bytes, where: str) -> tuple[bytes, int, str, int]:
    """Encoded image, label, class name ("" where there is none) and channels of one record."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{where} has a record that is no tf.train.Example") from error
    # A feature that is missing, or of another type, reads as an empty list.
    encoded, labels = features[IMAGE].bytes_list.value, features[LABEL].int64_list.value
    if len(encoded) != 1:
        raise InputError(f"{where} has a record without feature {IMAGE!r} (one string of bytes)")
    if len(labels) != 1 or labels[0] < 0:
        raise InputError(f"{where} has a record without feature {LABEL!r} (one int64 from 0 on)")
    text = b"".join(features[TEXT].bytes_list.value)
    channels = next(iter(features[COUNT].int64_list.value), CHANNELS)
    return encoded[0], labels[0], text.decode(errors="replace"), channels


def _name_classes(records: dict[str, list[_Record]], name: str) -> tuple[str, ...]:
    texts: dict[int, str] = {}
    for record in records["train"]:
        texts.setdefault(record.label, record.text)
    count = max(texts, default=-1) + 1
    # Labels that are hashes or identifiers would ask for a network of as many outputs.
    if count > len(records["train"]) + 1:
        raise InputError(
            f"dataset {name!r}: label {count - 1} among {len(records['train'])} training records; "
            "labels are to count the classes from 0 or 1"
        )
    for split, found in records.items():
        unknown = {record.label for record in found} - texts.keys()
        if unknown:
            raise InputError(
                f"dataset {name!r}: {split} has label {min(unknown)}, which the training "
                "records lack"
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
    for split, found in records.items():
        largest = max((record.label for record in found), default=-1)
        if largest >= len(names):
            raise InputError(
                f"dataset {name!r}: {split} has label {largest}, {file} names {len(names)} classes"
            )


def _read(files: Sequence[str], keep: np.ndarray, channels: int) -> Examples:
    """Those records that `keep`, bool `[records]`, is true for."""
    kept = tf.constant(keep)
    records = (
        tf.data.TFRecordDataset(files)
        .enumerate()
        .filter(lambda index, _: kept[index])
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
