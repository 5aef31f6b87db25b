"""Image folders and TFRecords, written here with Pillow and TensorFlow."""

import io
import warnings
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_archs.errors import InputError
from training.data import open_dataset
from training.data.readers.image_folder import hold_out


def encoded(number: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A 24 x 16 image whose colour tells which it is."""
    image = Image.new("RGB", (24, 16), (number % 250, number // 250, 77))
    file = io.BytesIO()
    image.convert(mode).save(file, kind)
    return file.getvalue()


def colours(dataset) -> list[tuple[int, int]]:
    """The number and label of each image of a split."""
    found = []
    for image, label in dataset.as_numpy_iterator():
        assert image.dtype == np.uint8
        assert image.shape == (16, 24, 3)
        low, high, _ = image[8, 8].tolist()
        found.append((low + 250 * high, int(label)))
    assert int(dataset.cardinality()) == len(found)
    return found


def splits_of(data) -> tuple[list[tuple[int, int]], ...]:
    return colours(data.train), colours(data.validation), colours(data.test)


def write_folder(root, counts: dict[str, int], first: int = 0) -> None:
    number = first
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            (root / name / f"{number}.png").write_bytes(encoded(number))
            number += 1


CORRUPT = {
    "half.jpg": encoded(0, "JPEG")[: len(encoded(0, "JPEG")) // 2],
    "no_end.jpeg": encoded(0, "JPEG")[:-2],
    "half.png": encoded(0)[: len(encoded(0)) // 2],
    "half.gif": encoded(0, "GIF")[: len(encoded(0, "GIF")) // 2],
    "half.bmp": encoded(0, "BMP")[:-100],
    "empty.jpg": b"",
    "text.jpg": b"not an image",
}


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=300).map(
        lambda found: np.array(found, int)
    ),
    parts=st.sampled_from([(), ("test",), ("validation", "test")]),
    seed=st.integers(0, 2**32 - 1),
)
def test_hold_out_divides_every_class(labels, parts, seed):
    chosen = hold_out(labels, parts, seed)
    assert set(chosen) == {"train", *parts}
    assert sorted(np.concatenate(list(chosen.values()))) == list(range(len(labels)))
    for label, count in Counter(labels.tolist()).items():
        assert (labels[chosen["train"]] == label).any()
        for part in parts:
            held = (labels[chosen[part]] == label).sum()
            assert abs(held - count / 10) < 1
    again = hold_out(labels, parts, seed)
    assert all((again[split] == chosen[split]).all() for split in chosen)


def test_folder_is_split_by_class_and_seed(tmp_path):
    write_folder(tmp_path, {"b": 40, "a": 60})
    data = open_dataset(f"image_folder:{tmp_path}", seed=3)
    splits = splits_of(data)
    assert data.class_names == ("a", "b")
    assert [Counter(label for _, label in split) for split in splits] == [
        {0: 48, 1: 32},
        {0: 6, 1: 4},
        {0: 6, 1: 4},
    ]
    assert sorted(chain(*splits)) == [(i, 1 if i < 40 else 0) for i in range(100)]
    # Classes are mixed, although files are listed class by class.
    assert {label for _, label in splits[0][:20]} == {0, 1}
    assert splits_of(open_dataset(f"image_folder:{tmp_path}", seed=3)) == splits
    assert splits_of(open_dataset(f"image_folder:{tmp_path}", seed=4)) != splits


@pytest.mark.parametrize("validation", [None, "val", "validation"])
def test_folder_with_folders_for_its_splits(tmp_path, validation):
    write_folder(tmp_path / "train", {"a": 10, "b": 10})
    write_folder(tmp_path / "test", {"a": 2, "b": 3}, first=100)
    if validation:
        write_folder(tmp_path / validation, {"b": 4}, first=200)
    train, val, test = splits_of(open_dataset(f"image_folder:{tmp_path}"))
    assert sorted(test) == [(100, 0), (101, 0), (102, 1), (103, 1), (104, 1)]
    if validation:
        assert sorted(val) == [(i, 1) for i in range(200, 204)]
        assert len(train) == 20
    else:
        assert [label for _, label in sorted(val)] == [0, 1]
        assert len(set(train) | set(val)) == 20


def test_formats_and_modes(tmp_path):
    names = {
        "0.JPG": encoded(9, "JPEG"),
        "1.png": encoded(9, mode="RGBA"),
        "2.gif": encoded(9, "GIF"),
        "3.bmp": encoded(9, "BMP"),
        "4.webp": encoded(9, "WEBP"),
        "5.png": encoded(9, mode="L"),
        "6.jpeg": encoded(9, "JPEG", mode="CMYK"),
    }
    for folder in ("train/a", "train/b", "test/a", "validation/a"):
        (tmp_path / folder).mkdir(parents=True)
        for name, content in names.items():
            (tmp_path / folder / name).write_bytes(content)
    data = open_dataset(f"image_folder:{tmp_path}")
    for image, _ in data.test.as_numpy_iterator():
        assert image.shape == (16, 24, 3)
    assert len(list(data.train.as_numpy_iterator())) == 14


def test_corrupt_files_are_named_or_skipped(tmp_path):
    write_folder(tmp_path, {"a": 30, "b": 30})
    for name, content in CORRUPT.items():
        (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"7 of 67 images are corrupt.*--skip-corrupt") as caught:
        open_dataset(f"image_folder:{tmp_path}")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a" / "empty.jpg") in str(caught.value)
    with pytest.warns(UserWarning, match="7 of 67 images are corrupt and skipped"):
        data = open_dataset(f"image_folder:{tmp_path}", skip_corrupt=True)
    assert sorted(chain(*splits_of(data))) == [(i, int(i >= 30)) for i in range(60)]


@pytest.mark.parametrize("name", CORRUPT)
def test_each_kind_of_corruption_is_found(tmp_path, name):
    write_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / name).write_bytes(CORRUPT[name])
    with pytest.raises(InputError, match=f"1 of 3 images are corrupt .*a/{name}: "):
        open_dataset(f"image_folder:{tmp_path}")


@pytest.mark.filterwarnings("ignore:.*skipped")
def test_class_of_corrupt_files_only(tmp_path):
    write_folder(tmp_path, {"a": 30})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="every image of class 'b' is corrupt"):
        open_dataset(f"image_folder:{tmp_path}", skip_corrupt=True)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (None, "is not a folder"),
        ({}, "has no folders; it needs one for each class"),
        ({"a": 3}, r"1 class found \(a\)"),
        ({"a": 3, "b": 0}, "/b has no image"),
        ({"a": 2, "b": 2}, "the validation split has no images"),
        ({"train/a": 3, "train/b": 3, "test/c": 3}, "test/c is a class without training images"),
        ({"train/a": 3, "train/b": 3, "val/a": 0}, "val/a has no image"),
    ],
)
def test_folders_refused(tmp_path, folders, message):
    root = tmp_path / "images"
    if folders is not None:
        root.mkdir()
        write_folder(root, folders)
    with pytest.raises(InputError, match=message):
        open_dataset(f"image_folder:{root}")


def record(content: bytes | None, label: int | None, text: str | None = None) -> bytes:
    def bytes_feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {}
    if content is not None:
        features["image/encoded"] = bytes_feature(content)
    if label is not None:
        features["image/class/label"] = tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        )
    if text is not None:
        features["image/class/text"] = bytes_feature(text.encode())
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in records:
            writer.write(one)


def numbered(numbers) -> list[bytes]:
    names = "cat", "dog", "eel"
    return [record(encoded(i, "PNG"), i % 3, names[i % 3]) for i in numbers]


def test_records_are_split_by_index(tmp_path):
    write_records(tmp_path / "all-1", numbered(range(300, 600)))
    write_records(tmp_path / "all-0", numbered(range(300)))
    data = open_dataset(f"tfrecord:{tmp_path}/all-*")
    every = [(i, i % 3) for i in range(600)]
    assert splits_of(data) == (
        [pair for i, pair in enumerate(every) if i % 10 < 8],
        every[8::10],
        every[9::10],
    )
    assert data.class_names == ("cat", "dog", "eel")


def test_records_of_named_splits(tmp_path):
    write_records(tmp_path / "train-0", numbered(range(30)))
    write_records(tmp_path / "test-0", numbered(range(100, 110)))
    train, validation, test = splits_of(open_dataset(f"tfrecord:{tmp_path}/{{split}}-*"))
    assert [number for number, _ in validation] == [9, 19, 29]
    assert [number for number, _ in sorted(train + validation)] == list(range(30))
    assert test == [(i, i % 3) for i in range(100, 110)]
    write_records(tmp_path / "validation-0", numbered(range(200, 205)))
    train, validation, _ = splits_of(open_dataset(f"tfrecord:{tmp_path}/{{split}}-*"))
    assert len(train) == 30
    assert validation == [(i, i % 3) for i in range(200, 205)]


def test_records_without_names_and_from_label_one(tmp_path):
    write_records(tmp_path / "r", [record(encoded(i), 1 + i % 2) for i in range(20)])
    data = open_dataset(f"tfrecord:{tmp_path}/r")
    assert data.class_names == ("0", "1", "2")
    assert {label for _, label in colours(data.train)} == {1, 2}


def test_records_beside_the_names_of_their_classes(tmp_path):
    write_records(tmp_path / "train-0", [record(encoded(i), i % 2) for i in range(20)])
    write_records(tmp_path / "test-0", [record(encoded(i), 2) for i in range(3)])
    names = tmp_path / "image-class-label.labels.txt"
    names.write_text("cat\ndog\neel\nfox\n")
    data = open_dataset(f"tfrecord:{tmp_path}/{{split}}-0")
    assert data.class_names == ("cat", "dog", "eel", "fox")
    assert colours(data.test) == [(0, 2), (1, 2), (2, 2)]
    for wrong, message in (
        ("cat\ndog\n", r"test has label 2, .*\.labels\.txt names 2 classes"),
        ("cat\ndog\ncat\n", r"labels\.txt does not name classes: .*unique"),
    ):
        names.write_text(wrong)
        with pytest.raises(InputError, match=message):
            open_dataset(f"tfrecord:{tmp_path}/{{split}}-0")


def test_corrupt_records_are_named_or_skipped(tmp_path):
    records = numbered(range(40))
    records[9] = record(CORRUPT["half.jpg"], 0)
    records[10] = record(b"", 1)
    write_records(tmp_path / "r", records)
    with pytest.raises(InputError, match=r"2 of 40 .*--skip-corrupt.*r record 9: .*r record 10: "):
        open_dataset(f"tfrecord:{tmp_path}/r")
    with pytest.warns(UserWarning, match="2 of 40 images are corrupt and skipped"):
        data = open_dataset(f"tfrecord:{tmp_path}/r", skip_corrupt=True)
    train, validation, test = splits_of(data)
    assert [number for number, _ in test] == [19, 29, 39]
    assert [number for number, _ in validation] == [8, 18, 28, 38]
    assert len(train) == 31


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([b"\xff not a proto"], "r has a record that is not a tf.train.Example"),
        ([record(None, 1)], "without feature 'image/encoded'"),
        ([record(encoded(1), None)], "without feature 'image/class/label'"),
        (
            [record(encoded(1), -1)],
            r"without feature 'image/class/label' \(one int64 of at least 0\)",
        ),
        ([record(encoded(1), 10**9)], "up to 1000000000, but there are only 41 training records"),
    ],
)
def test_records_refused(tmp_path, records, message):
    write_records(tmp_path / "r", numbered(range(40)) + records)
    with pytest.raises(InputError, match=message):
        open_dataset(f"tfrecord:{tmp_path}/r")


def test_record_files_refused(tmp_path):
    with pytest.raises(InputError, match=r"no file matches '.*/train-"):
        open_dataset(f"tfrecord:{tmp_path}/{{split}}-*")
    write_records(tmp_path / "good", numbered(range(40)))
    (tmp_path / "short").write_bytes((tmp_path / "good").read_bytes()[:-10])
    (tmp_path / "text").write_text("this is not a TFRecord file")
    for name in ("short", "text"):
        with pytest.raises(
            InputError, match=f"/{name} is truncated or not an uncompressed TFRecord"
        ):
            open_dataset(f"tfrecord:{tmp_path}/{name}")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    write_records(tmp_path / "one", [record(encoded(1), 0)] * 20)
    for name, message in (
        ("empty", "/empty is empty"),
        ("lin*", "/link cannot be read: .*No such file"),
        ("one", r"1 class found \(0\)"),
    ):
        with pytest.raises(InputError, match=message):
            open_dataset(f"tfrecord:{tmp_path}/{name}")
    write_records(tmp_path / "train-0", [record(encoded(i), i % 2) for i in range(20)])
    write_records(tmp_path / "test-0", [record(encoded(1), 7)])
    with pytest.raises(
        InputError, match="test has label 7, which the training records do not have"
    ):
        open_dataset(f"tfrecord:{tmp_path}/{{split}}-0")


@pytest.mark.parametrize("first", [0, 1])
def test_a_missing_record_file_is_named(tmp_path, first):
    files = [tmp_path / f"train-{first + i:05}-of-00003" for i in range(3)]
    for i, file in enumerate(files):
        write_records(file, numbered(range(20 * i, 20 * i + 20)))
    assert len(splits_of(open_dataset(f"tfrecord:{tmp_path}/train-*"))[0]) == 48
    files[1].unlink()
    with pytest.raises(InputError, match=f"{files[1].name} is missing"):
        open_dataset(f"tfrecord:{tmp_path}/train-*")
    assert len(splits_of(open_dataset(f"tfrecord:{files[2]}"))[0]) == 16, "the only one asked for"


def test_a_missing_record_file_is_named_in_the_working_folder(tmp_path, monkeypatch):
    for i in (0, 2):
        write_records(tmp_path / f"train-{i:05}-of-00003", numbered(range(20 * i, 20 * i + 20)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="train-00001-of-00003 is missing"):
        open_dataset("tfrecord:train-*")


def test_the_first_or_the_last_record_file_is_missing(tmp_path):
    """Whether these count from 0 or from 1 cannot be known."""
    for i in (1, 2):
        write_records(tmp_path / f"train-{i:05}-of-00003", numbered(range(20 * i, 20 * i + 20)))
    either = "train-00000-of-00003 or .*/train-00003-of-00003 is missing"
    with pytest.raises(InputError, match=either):
        open_dataset(f"tfrecord:{tmp_path}/train-*")
    assert len(splits_of(open_dataset(f"tfrecord:{tmp_path}/train-0000[12]*"))[0]) == 32


def test_clean_data_warns_of_nothing(tmp_path):
    write_folder(tmp_path, {"a": 5, "b": 5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_dataset(f"image_folder:{tmp_path}", skip_corrupt=True)
