"""Finds missing and damaged shards of a dataset by reading a small part of each file."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_archs.errors import InputError

from ..decode.decode import reason
from ..image_data import SPLITS

FRAME = 16
"""Bytes of a TFRecord file per record apart from its data: the length and two checksums."""
_NUMBERED = re.compile(r"(.*-)(\d{1,6})(-of-(\d{1,6})\b.*)")

ShardCounts = Sequence[int | str]
"""Number of records in each shard of a split, or why the shard cannot be read."""


def check_shards(name: str, builder: tfds.core.DatasetBuilder) -> None:
    """Checks that each shard of TFDS dataset `name` has its number of records.

    An ArrayRecord file has an index. The check reads the first record of a TFRecord file. It counts
    the others only if the size of a split's files differs from the size that TFDS recorded. It does
    not find changed bytes inside a file; training reports them.

    Raises:
        InputError: a shard is missing, unreadable, truncated or in another format.
    """
    file_format = builder.info.file_format
    formats = {
        tfds.core.FileFormat.ARRAY_RECORD: _array_records,
        tfds.core.FileFormat.TFRECORD: _tf_records,
    }
    infos = [builder.info.splits[split] for split in SPLITS if split in builder.info.splits]
    for info in infos if file_format in formats else ():
        shards = zip(info.filepaths, info.shard_lengths, formats[file_format](info), strict=True)
        for file, length, count in shards:
            if count != length:
                raise InputError(
                    f"dataset {name!r}: {file} is missing, truncated or not in"
                    f" {file_format.value} format; expected {length} records, found: {count}."
                )


def check_files(name: str, files: Sequence[str], pattern: str) -> None:
    """Checks that no TFRecord file of dataset `name` is empty or missing.

    Names like `train-00000-of-00016` tell the number of files. Files that `pattern` does not match
    are excluded on purpose.

    Raises:
        InputError: a file is empty, missing or unreadable. The message names the first one.
    """
    for file in files:
        try:
            size = tf.io.gfile.stat(file).length
        except tf.errors.OpError as error:  # for example a broken link
            raise InputError(f"dataset {name!r}: {file} cannot be read: {reason(error)}") from error
        if size == 0:
            raise InputError(f"dataset {name!r}: {file} is empty; a TFRecord file has records.")
    sets = defaultdict(set)
    for match in filter(None, map(_NUMBERED.fullmatch, files)):
        begin, number, end = match.group(1, 2, 3)
        sets[begin, len(number), end, int(match[4])].add(int(number))
    glob = Path(pattern).name  # the glob may spell the folder differently from its matches
    for (begin, digits, end, count), numbers in sets.items():
        gaps = [[index] for index in range(1, count) if index not in numbers]
        if numbers.isdisjoint({0, count}):  # some datasets count from 1
            gaps.insert(0, [0, count])
        for gap in gaps:
            missing = [f"{begin}{index:0{digits}}{end}" for index in gap]
            selectors = [fnmatch.fnmatchcase(Path(file).name, glob) for file in missing]
            if selectors[0]:
                raise InputError(
                    f"dataset {name!r}: {' or '.join(compress(missing, selectors))} is missing;"
                    " to read the other files only, give a pattern that does not match it."
                )


def _array_records(info: tfds.core.SplitInfo) -> ShardCounts:
    # Not available on every platform that TFDS supports.
    from array_record.python.array_record_module import ArrayRecordReader  # noqa: PLC0415

    def count(file: Any) -> int | str:
        try:
            return ArrayRecordReader(str(file)).num_records()
        except RuntimeError as error:
            return str(error).partition("\n")[0]

    return [count(file) for file in info.filepaths]


def _tf_records(info: tfds.core.SplitInfo) -> ShardCounts:
    def read_first(file: Any, length: int) -> int | str:
        try:
            return length if list(tf.data.TFRecordDataset(str(file)).take(1)) else 0
        except tf.errors.OpError as error:
            return reason(error)

    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(read_first, info.filepaths, info.shard_lengths))
    if counts != list(info.shard_lengths):
        return counts
    size = sum(file.stat().length for file in info.filepaths)
    # TFDS records the size of the files with Beam, and otherwise the size of their records.
    if size in (info.num_bytes, info.num_bytes + FRAME * info.num_examples):
        return counts
    return [_count(file) for file in info.filepaths]


def _count(file: Any) -> int | str:
    """Counts the records of a TFRecord file by reading only their lengths."""
    size, place, count = file.stat().length, 0, 0
    with file.open("rb") as stream:
        while place < size:
            stream.seek(place)
            place += int.from_bytes(stream.read(8), "little") + FRAME
            count += 1
    return count if place == size else f"{count - 1} and a partial record"
