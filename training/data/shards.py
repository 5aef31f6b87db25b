"""Which shards of a dataset are missing or damaged, as far as a little of each file tells."""

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

from .encoded import reason
from .image_data import SPLITS

FRAME = 16
"""Bytes of a TFRecord file for each record beside it: its length and two checksums."""
_NUMBERED = re.compile(r"(.*-)(\d{1,6})(-of-(\d{1,6})\b.*)")

Found = Sequence[int | str]
"""How many records each shard of a split has, or why it cannot be read."""


def check_shards(name: str, builder: tfds.core.DatasetBuilder) -> None:
    """Names the first shard of TFDS dataset `name` that does not hold its records.

    An ArrayRecord file has an index. Of a TFRecord file the first record is read, and others are
    looked for only where a split's files have not the size that TFDS noted: bytes that have changed
    in the midst of a file are for the run to meet.

    Raises:
        InputError: a shard is missing, cannot be read, is truncated or of another format.
    """
    file_format = builder.info.file_format
    formats = {
        tfds.core.FileFormat.ARRAY_RECORD: _array_records,
        tfds.core.FileFormat.TFRECORD: _tf_records,
    }
    infos = [builder.info.splits[split] for split in SPLITS if split in builder.info.splits]
    for info in infos if file_format in formats else ():
        shards = zip(info.filepaths, info.shard_lengths, formats[file_format](info), strict=True)
        for file, length, found in shards:
            if found != length:
                raise InputError(
                    f"dataset {name!r}: {file} is missing, truncated or no {file_format.value}"
                    f" file; it has to hold {length} records, found: {found}."
                )


def check_files(name: str, files: Sequence[str], pattern: str) -> None:
    """Names the first TFRecord file of dataset `name` that is empty or is not there.

    How many have to be there is known from names such as `train-00000-of-00016`. Those that
    `pattern` does not match are left out on purpose.

    Raises:
        InputError: there is one.
    """
    for file in files:
        try:
            size = tf.io.gfile.stat(file).length
        except tf.errors.OpError as error:  # such as of a link to nowhere
            raise InputError(f"dataset {name!r}: {file} cannot be read: {reason(error)}") from error
        if size == 0:
            raise InputError(f"dataset {name!r}: {file} is empty; a TFRecord file has records.")
    sets = defaultdict(set)
    for found in filter(None, map(_NUMBERED.fullmatch, files)):
        begin, number, end = found.group(1, 2, 3)
        sets[begin, len(number), end, int(found[4])].add(int(number))
    wanted = Path(pattern).name  # the folder of what was found may be written otherwise
    for (begin, digits, end, count), numbers in sets.items():
        gaps = [[index] for index in range(1, count) if index not in numbers]
        if numbers.isdisjoint({0, count}):  # some count from 1
            gaps.insert(0, [0, count])
        for gap in gaps:
            missing = [f"{begin}{index:0{digits}}{end}" for index in gap]
            matched = [fnmatch.fnmatchcase(Path(each).name, wanted) for each in missing]
            if matched[0]:
                raise InputError(
                    f"dataset {name!r}: {' or '.join(compress(missing, matched))} is missing; a"
                    " pattern that does not match it takes the others alone."
                )


def _array_records(info: tfds.core.SplitInfo) -> Found:
    # Not there on every platform that TFDS itself runs on.
    from array_record.python.array_record_module import ArrayRecordReader  # noqa: PLC0415

    def count(file: Any) -> int | str:
        try:
            return ArrayRecordReader(str(file)).num_records()
        except RuntimeError as error:
            return str(error).partition("\n")[0]

    return [count(file) for file in info.filepaths]


def _tf_records(info: tfds.core.SplitInfo) -> Found:
    def read_first(file: Any, length: int) -> int | str:
        try:
            return length if list(tf.data.TFRecordDataset(str(file)).take(1)) else 0
        except tf.errors.OpError as error:
            return reason(error)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read_first, info.filepaths, info.shard_lengths))
    if found != list(info.shard_lengths):
        return found
    size = sum(file.stat().length for file in info.filepaths)
    # With Beam, TFDS notes the size of the files, and otherwise that of the records in them.
    if size in (info.num_bytes, info.num_bytes + FRAME * info.num_examples):
        return found
    return [_count(file) for file in info.filepaths]


def _count(file: Any) -> int | str:
    """The records of a TFRecord file, by their lengths alone."""
    size, place, count = file.stat().length, 0, 0
    with file.open("rb") as stream:
        while place < size:
            stream.seek(place)
            place += int.from_bytes(stream.read(8), "little") + FRAME
            count += 1
    return count if place == size else f"{count - 1} and a part of one"
