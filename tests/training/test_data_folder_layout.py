"""Folders as people have them: nested, with other names, with files that are no images."""

import os
import re
import warnings
from pathlib import Path

import keras
import pytest

from keras_archs.errors import InputError
from tests.training.test_data_files import (
    encoded,
    numbered,
    record,
    splits_of,
    write_folder,
    write_records,
)
from training.data import open_dataset
from training.data.prepare import prepare


def opened(root, **options):
    """A folder's dataset and the warnings on it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = open_dataset(f"image_folder:{root}", **options)
    return data, [str(each.message) for each in told]


def numbers(data) -> list[tuple[int, int]]:
    """The number and label of all images."""
    return sorted(pair for split in splits_of(data) for pair in split)


def test_images_at_any_depth_are_those_that_keras_takes(tmp_path):
    write_folder(tmp_path, {"cat": 10, "cat/Monday": 5, "cat/Monday/late": 3, "dog/1/2": 12})
    data, told = opened(tmp_path)
    keras_own = keras.utils.image_dataset_from_directory(tmp_path, shuffle=False, verbose=False)
    expected = sorted(
        (
            int(Path(path).stem),
            keras_own.class_names.index(Path(path).relative_to(tmp_path).parts[0]),
        )
        for path in keras_own.file_paths
    )
    assert numbers(data) == expected
    assert len(expected) == 30
    assert told == []


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("TRAIN", "VALIDATION", "TEST"),
        ("training", "dev", "testing"),
        ("train", "eval", "test"),
    ],
)
def test_names_of_splits(tmp_path, train, validation, test):
    for first, (split, count) in enumerate([(train, 6), (validation, 4), (test, 2)]):
        write_folder(tmp_path / split, {"a": count, "b": count}, first=100 * first)
    data, told = opened(tmp_path)
    assert data.counts == {"train": 12, "validation": 8, "test": 4}
    assert [min(split)[0] for split in splits_of(data)] == [0, 100, 200]
    assert told == []


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/a", "train/b", "val/a", "validation/a"], "has 'val' and 'validation' for the val"),
        (["train/a", "train/b", "Train/a", "Train/b"], "has 'Train' and 'train' for the train spl"),
        (["valid/a", "valid/b", "test/a", "test/b"], "has test, valid and no folder 'train'"),
        (["train", "test"], "train has no folders; it needs one for each class"),
        (["photos/a", "photos/b"], "'photos'; did you mean 'image_folder:.*/photos'"),
        (["photos/train/a", "photos/train/b", "photos/test/a"], "did you mean 'image_folder:.*/ph"),
    ],
)
def test_folders_that_are_unclear_are_refused(tmp_path, folders, message):
    write_folder(tmp_path, dict.fromkeys(folders, 3))
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_of_trains(tmp_path):
    write_folder(tmp_path, {"car": 12, "test": 11, "train": 10})
    data, told = opened(tmp_path)
    assert data.class_names == ("car", "test", "train")
    assert told == []


def test_a_test_folder_of_images_that_nobody_has_sorted(tmp_path):
    """As Kaggle's competitions have it: it is left out, and others are held out to test on."""
    write_folder(tmp_path, {"train/a": 10, "train/b": 10, "test": 5, "extra/a": 3})
    data, [told] = opened(tmp_path)
    assert data.counts == {"train": 16, "validation": 2, "test": 2}
    assert told.endswith("skipped not a split with class folders: 2, for example 'extra'")


def link(path, target):
    path.symlink_to(target, target_is_directory=True)


def touch(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("cat/._0.jpg", touch, "hidden"),
        ("cat/.DS_Store", touch, "hidden"),
        (".DS_Store", touch, "hidden"),
        ("__MACOSX/0.jpg", touch, "hidden"),
        ("cat/@eaDir/0.jpg", touch, "hidden"),
        ("cat/Thumbs.db", touch, ".db files"),
        ("cat/notes.TXT", touch, ".txt files"),
        ("cat/IMG_1.HEIC", touch, ".heic files"),
        ("cat/README", touch, "other files"),
        ("labels.csv", touch, "files beside the class folders"),
        ("0.jpg", touch, "files beside the class folders"),
        ("cat/album.jpg", Path.mkdir, "empty folders"),
        ("cat/self", lambda path: link(path, "."), "links to a folder that they are in"),
        ("cat/up", lambda path: link(path, ".."), "links to a folder that they are in"),
    ],
)
def test_what_is_left_out_is_said_in_one_line(tmp_path, name, make, reason):
    write_folder(tmp_path, {"cat": 10, "dog": 10})
    make(tmp_path / name)
    data, [told] = opened(tmp_path)
    assert sum(data.counts.values()) == 20
    assert data.class_names == ("cat", "dog")
    top = name.rpartition("/")[0] if reason == "hidden" and "._" not in name else name
    assert re.search(f"skipped {re.escape(reason)}: 1, for example '{re.escape(top or name)}", told)


def test_counts_and_reasons_of_all_that_is_left_out(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 10})
    for name in ("cat/a.txt", "dog/b.txt", "cat/c.csv", "cat/.x", "dog/.y", "z"):
        touch(tmp_path / name)
    _, [told] = opened(tmp_path)
    assert told == (
        f"dataset 'image_folder:{tmp_path}': skipped files beside the class folders: 1, for"
        " example 'z'; hidden: 2, for example 'cat/.x'; .txt files: 2, for example 'cat/a.txt';"
        " .csv files: 1, for example 'cat/c.csv'"
    )


def test_a_class_without_images_says_what_it_has(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 0})
    for i in range(3):
        touch(tmp_path / "dog" / f"{i}.heic")
    with pytest.raises(
        InputError, match=r"/dog has no image \(skipped: .heic files: 3, for example"
    ):
        opened(tmp_path)


def test_links_in_a_circle_end(tmp_path):
    write_folder(tmp_path / "set", {"cat": 10, "dog": 10})
    write_folder(tmp_path / "more", {"x": 2}, first=50)
    link(tmp_path / "set/cat/more", tmp_path / "more")
    link(tmp_path / "more/x/back", tmp_path / "set/cat")
    data, [told] = opened(tmp_path / "set")
    assert [number for number, label in numbers(data) if label == 0] == [*range(10), 50, 51]
    assert "links to a folder that they are in: 1, for example 'cat/more/x/back'" in told


UNREADABLE = {
    "nowhere.jpg": lambda path: path.symlink_to("nowhere"),
    "round.jpg": lambda path: path.symlink_to("round.jpg"),
    "pipe.jpg": os.mkfifo,
    "empty.png": lambda path: path.write_bytes(b""),
    "text.tif": lambda path: path.write_bytes(b"no image"),
    "half.tif": lambda path: path.write_bytes(encoded(1, "TIFF")[:300]),
}


def test_skip_corrupt_survives_whatever_cannot_be_read(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 10})
    for name, make in UNREADABLE.items():
        make(tmp_path / "cat" / name)
    with pytest.raises(InputError, match=r"6 of 26 images are corrupt .*--skip-corrupt"):
        opened(tmp_path)
    data, [told] = opened(tmp_path, skip_corrupt=True)
    assert numbers(data) == [(i, int(i >= 10)) for i in range(20)]
    assert "6 of 26 images are corrupt and skipped" in told


@pytest.mark.parametrize("name", UNREADABLE)
def test_each_is_named(tmp_path, name):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    UNREADABLE[name](tmp_path / "cat" / name)
    with pytest.raises(InputError, match=f"1 of 3 images are corrupt .*/cat/{name}: ."):
        opened(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_skipped(tmp_path):
    write_folder(tmp_path, {"cat": 10, "cat/locked": 1, "dog": 10})
    (tmp_path / "dog" / "11.png").chmod(0)
    (tmp_path / "cat" / "locked").chmod(0)
    data, [told] = opened(tmp_path, skip_corrupt=True)
    assert sum(data.counts.values()) == 19
    assert "2 of 21 images are corrupt and skipped: " in told
    assert told.count("Permission denied") == 2


def test_a_folder_that_cannot_be_listed_is_skipped(tmp_path, monkeypatch):
    write_folder(tmp_path, {"cat": 10, "cat/locked": 1, "dog": 10})
    real = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        InputError, match=r"1 of 21 images are corrupt .*/cat/locked: Permission de"
    ):
        opened(tmp_path)
    data, [told] = opened(tmp_path, skip_corrupt=True)
    assert sum(data.counts.values()) == 20
    assert "1 of 21 images are corrupt and skipped: " in told


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"carriage\rreturn"])
def test_names_of_classes_that_no_file_of_labels_can_have(tmp_path, name):
    write_folder(tmp_path, {"cat": 10, os.fsdecode(name): 10})
    with pytest.raises(InputError, match="has a name that is not one line of UTF-8") as caught:
        opened(tmp_path)
    assert str(caught.value).isprintable()


def test_names_of_files_need_not_be_utf8(tmp_path):
    write_folder(tmp_path, {"猫 cat": 10, "dog": 10})
    (tmp_path / "dog" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(30))
    data, _ = opened(tmp_path)
    assert data.class_names == ("dog", "猫 cat")
    assert (30, 0) in numbers(data)


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    write_folder(root, {"cat": 10, "dog": 10})
    with pytest.raises(InputError, match="is not UTF-8; rename"):
        opened(root)


def test_suffixes(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 10})
    files = {
        "a.tif": "TIFF", "b.TIFF": "TIFF", "c.jfif": "JPEG", "d.JPG": "JPEG", "e.jpe": "JPEG",
    }  # fmt: skip
    for name, kind in files.items():
        (tmp_path / "cat" / name).write_bytes(encoded(1, kind))
    data, told = opened(tmp_path)
    assert sum(data.counts.values()) == 25
    assert told == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "photos", {"cat": 10, "dog": 10})
    return tmp_path


@pytest.mark.full
def test_home_folders(home):
    expected = numbers(open_dataset(f"image_folder:{home}/photos"))
    assert numbers(open_dataset("image_folder:~/photos")) == expected
    for form in ("tfrecord", "array_record"):
        spec = prepare("image_folder:~/photos", f"~/{form}", format=form)
        assert numbers(open_dataset(spec)) == expected
        assert numbers(open_dataset(spec.replace(str(home), "~"))) == expected
    open_dataset("fashion_mnist_small", data_dir="~/tfds")
    assert (home / "tfds" / "fashion_mnist_small").is_dir()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("{}/photos", "image_folder:{}/photos"),
        ("photos", "image_folder:photos"),
        ("./photos", "image_folder:./photos"),
        ("~/photos", "image_folder:~/photos"),
        ("imagefolder:{}/photos", "image_folder:{}/photos"),
        ("image-folder:photos", "image_folder:photos"),
        ("Image_Folder:photos", "image_folder:photos"),
        ("folder:photos", "image_folder:photos"),
        ("file:photos", "image_folder:photos"),
        ("tfrecords:nowhere-*", "tfrecord:nowhere-*"),
        ("images.tfrecord", "tfrecord:images.tfrecord"),
        ("prepared", "tfds_folder:prepared"),
    ],
)
def test_what_a_path_without_its_prefix_is_meant_to_be(home, monkeypatch, spec, meant):
    monkeypatch.chdir(home)
    write_records(home / "images.tfrecord", numbered(range(9)))
    (home / "prepared").mkdir()
    (home / "prepared" / "dataset_info.json").touch()
    with pytest.raises(InputError) as caught:
        open_dataset(spec.format(home))
    assert str(caught.value).endswith(f"; did you mean {meant.format(home)!r}?")


def test_a_dataset_of_tfds_is_not_the_folder_of_its_name(home, monkeypatch):
    write_folder(home / "fashion_mnist_small", {"cat": 10, "dog": 10})
    monkeypatch.chdir(home)
    assert len(open_dataset("fashion_mnist_small").class_names) == 10


@pytest.mark.parametrize("names", [("cat", "two\nlines"), ("cat", "cat\r")])
def test_names_in_records_that_no_file_of_labels_can_have(tmp_path, names):
    records = [record(encoded(i), i % 2, names[i % 2]) for i in range(20)]
    write_records(tmp_path / "r", records)
    with pytest.raises(InputError, match="has a name that is not one line of UTF-8"):
        open_dataset(f"tfrecord:{tmp_path}/r")
