"""Datasets written as shards and read again: the same images, labels, names and order."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_archs.errors import InputError
from tests.training.runs import small_files
from tests.training.test_data_files import encoded, record, write_folder, write_records
from tflite_export.cli.main import main
from training.data import open_dataset
from training.data import prepare as preparing
from training.data.prepare import prepare


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """JPEG and PNG files of three classes."""
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, {"cat": 12, "dog": 10, "eel": 11})
    for i in range(9):
        (folder / "cat" / f"{i}.jpg").write_bytes(encoded(i, "JPEG"))
    return f"image_folder:{folder}"


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    """Records of gray images, as the ImageNet scripts would say."""
    path = tmp_path_factory.mktemp("gray") / "r"
    marked = []
    for i in range(20):
        example = tf.train.Example.FromString(record(encoded(i, "PNG", "L"), i % 2))
        example.features.feature["image/channels"].int64_list.value.append(1)
        marked.append(example.SerializeToString())
    write_records(path, marked)
    return f"tfrecord:{path}"


def stored(data) -> list[list[tuple[bytes, int]]]:
    """The files and labels of each split, as they are."""
    return [
        list(examples.encoded.map(examples.content).as_numpy_iterator())
        for examples in data.splits.values()
    ]


def decoded(data) -> list[tuple[np.ndarray, int]]:
    return list(data.validation.as_numpy_iterator())


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_what_is_written_is_what_was_read(photos, tmp_path, form):
    before = open_dataset(photos)
    after = open_dataset(prepare(photos, tmp_path / "out", format=form, shards=3))
    assert stored(after) == stored(before)
    assert after.class_names == before.class_names
    for (image, label), (other, other_label) in zip(decoded(after), decoded(before), strict=True):
        np.testing.assert_array_equal(image, other)
        assert label == other_label
    files = [path.name for path in (tmp_path / "out").iterdir() if "-train" in path.name]
    assert len(files) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_classes_without_images_stay(photos, tmp_path, form):
    names = ("cat", "dog", "eel", "fox")
    spec = prepare(photos, tmp_path / "more", format="array_record")
    folder = Path(spec.removeprefix("tfds_folder:"))
    features = json.loads((folder / "features.json").read_text())
    features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = str(len(names))
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "label.labels.txt").write_text("\n".join(names) + "\n")
    after = open_dataset(prepare(spec, tmp_path / "out", format=form))
    assert after.class_names == names
    assert stored(after) == stored(open_dataset(photos))


def test_records_have_the_features_of_the_imagenet_scripts(photos, tmp_path):
    prepare(photos, tmp_path / "out")
    record = next(iter(tf.data.TFRecordDataset(tf.io.gfile.glob(f"{tmp_path}/out/*-train*"))))
    features = tf.train.Example.FromString(record.numpy()).features.feature
    label = features["image/class/label"].int64_list.value[0]
    assert features["image/class/text"].bytes_list.value == [[b"cat", b"dog", b"eel"][label]]
    assert set(features) == {
        "image/encoded",
        "image/channels",
        "image/class/label",
        "image/class/text",
    }


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_gray_images_stay_gray(gray, tmp_path, form):
    before = open_dataset(gray)
    after = open_dataset(prepare(gray, tmp_path / "out", format=form))
    assert after.image_shape[-1] == 1
    assert stored(after) == stored(before)


def test_command(photos, tmp_path, monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr(sys, "argv", ["keras-archs", "data", "prepare", photos, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    out = tmp_path / "shards"
    code, printed = command("--out", str(out), "--shards", "2")
    assert code in (None, 0)
    spec = printed.out.split("'")[1]
    assert len(stored(open_dataset(spec))) == 3
    mark = out / "mark"
    mark.touch()
    code, printed = command("--out", str(out))
    assert code == 2
    assert "exists; give overwrite=True (--overwrite)" in printed.err
    assert mark.exists()
    command("--out", str(out), "--overwrite")
    assert not mark.exists()
    assert stored(open_dataset(spec)) == stored(open_dataset(photos))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "format must be one of tfrecord, array_record, got 'zip'"),
        ({"shards": 0}, "shards must be at least 1, got 0"),
        ({"beam_options": ["--runner=X"]}, "beam_options need beam=True"),
        ({"dataset": "image_folder:/nowhere"}, "is not a folder"),
        (
            {"shards": 100},
            r"shards must be from 1 to [0-9], the number of images in the valid.*got 100",
        ),
        ({"out": "/proc/x"}, "out='/proc/x' cannot be written to: .*No such file"),
        ({"out": "/proc/x", "dataset": "image_folder:/nowhere"}, "out='/proc/x' cannot be written"),
        ({"out": f"{__file__}/x"}, "out=.*test_data_prepare.py/x' cannot be written to: .*exists"),
        ({"out": "gs://bucket/x"}, "out='gs://bucket/x' is not a local folder"),
    ],
)
def test_refused(photos, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        prepare(**{"dataset": photos, "out": tmp_path / "out"} | options)
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_images_that_go_while_they_are_copied_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    write_folder(folder, {"cat": 10, "dog": 10})

    def losing(*given, **options):
        data = open_dataset(*given, **options)
        shutil.rmtree(folder / "dog")
        return data

    monkeypatch.setattr(preparing, "open_dataset", losing)
    with pytest.raises(InputError, match=r"can no longer be read: .*/dog/.*No such file"):
        prepare(f"image_folder:{folder}", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.full
@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_no_room_leaves_the_earlier_folder(photos, tmp_path, form):
    spec = prepare(photos, tmp_path / "out", format=form)
    before = stored(open_dataset(spec))
    with (
        small_files(500),
        pytest.raises(InputError, match=r"out='.*/out' cannot be written to: .*too large"),
    ):
        prepare(photos, tmp_path / "out", format=form, overwrite=True)
    assert stored(open_dataset(spec)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_beam_is_asked_for_by_name(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"pip install 'keras-archs\[beam\]'"):
        prepare(photos, tmp_path / "out", beam=True)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_beam_writes_the_same(photos, tmp_path, form):
    pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")
    spec = prepare(photos, tmp_path / "out", format=form, shards=2, beam=True)
    assert stored(open_dataset(spec)) == stored(open_dataset(photos))


def test_an_unreadable_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="is not a TFDS dataset folder with dataset_info"):
        open_dataset(f"tfds_folder:{tmp_path}")


@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_damaged_array_record_is_named(photos, tmp_path, keep):
    spec = prepare(photos, tmp_path / "out", format="array_record", shards=2)
    file = sorted((tmp_path / "out").glob("*-train*"))[1]
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(
        InputError, match=f"{file.name} is missing, truncated or not in array_record"
    ):
        open_dataset(spec)
    file.unlink()
    with pytest.raises(InputError, match=f"{file.name} is missing"):
        open_dataset(spec)
