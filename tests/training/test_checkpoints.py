"""Checkpoints that are damaged, and such as only cannot be read now."""

import errno
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import TrainConfig, TrainingStopped
from training.runs.checkpoints import Checkpoints, Progress
from training.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of the checkpoints of epochs 1 and 2."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd")
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for epoch in (1, 2):
        config = TrainConfig(model="mobilenet", dataset="any")
        Checkpoints(folder).save(model, Progress(config, epoch=epoch))
    return folder


@pytest.fixture
def folder(two, tmp_path):
    return Path(shutil.copytree(two, tmp_path / "checkpoints"))


def test_the_log_of_an_older_run_counted_from_0(folder):
    newest = max(folder.iterdir())
    with zipfile.ZipFile(newest) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(files["state.json"])
    state["history"] = [{"epoch": epoch, "loss": 1.0 - epoch} for epoch in range(2)]
    for name in ("timed_images", "timed_seconds"):  # were not there then
        del state[name]
    with zipfile.ZipFile(newest, "w") as archive:
        for name, data in (files | {"state.json": json.dumps(state)}).items():
            archive.writestr(name, data)
    progress = Checkpoints(folder).load().progress
    assert progress.history == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.0}]

    run = RunFolder(folder.parent)
    run.log.write_text("epoch,loss\n0,1.0\n1,0.0\n")
    assert run.history() == progress.history
    run.write_log(progress.history)  # as a resumed run does
    assert run.log.read_text().split() == ["epoch,loss", "1,1.0", "2,0.0"]
    assert run.history() == progress.history


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_one_is_passed_over(two, tmp_path_factory, data):
    folder = Path(shutil.copytree(two, tmp_path_factory.mktemp("copy") / "checkpoints"))
    older, newer = sorted(folder.iterdir())
    whole = newer.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        newer.write_bytes(whole[:place])
    else:
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
        newer.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
    expected = Checkpoints(two).load()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = Checkpoints(folder).load()
    assert len(found.arrays) == len(expected.arrays)
    for one, other in zip(found.arrays, expected.arrays, strict=True):  # epoch 2's, as epoch 1's
        np.testing.assert_array_equal(one, other)
    damaged = [each for each in caught if "is damaged (" in str(each.message)]
    assert found.progress.epoch == 2 - len(damaged)
    assert newer.exists() == (not damaged)
    assert older.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("function", ["read_bytes", "iterdir"])
def test_one_that_cannot_be_read_now_stays(folder, monkeypatch, number, function):
    before = content(folder)

    def fail(path):
        raise OSError(number, "no luck", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, function, fail)
        with pytest.raises(TrainingStopped, match=r"no luck.*nothing is removed"):
            Checkpoints(folder).load()
    assert content(folder) == before
    assert Checkpoints(folder).load().progress.epoch == 2


@pytest.mark.parametrize("key", ["config", "progress"])
def test_one_of_another_version_stays(folder, key):
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        state = json.loads(members["state.json"])
        (state["config"] if key == "config" else state)["shake"] = 1
        members["state.json"] = json.dumps(state).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
    before = content(folder)
    with pytest.raises(TrainingStopped, match=r"version of keras-archs.*'shake'.*nothing is rem"):
        Checkpoints(folder).load()
    assert content(folder) == before
