"""Files are whole or absent."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from keras_archs.errors import InputError
from keras_archs.files import atomic_write, check_target, write_target


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file.bin"
    atomic_write(path, b"first")
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_earlier_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    path.write_bytes(b"earlier")

    def full_disk(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_the_file_as_any_other(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_bytes(b"")
    atomic_write(atomic, b"")
    assert stat.S_IMODE(atomic.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_target_is_refused_before_the_work(tmp_path):
    taken = tmp_path / "taken"
    taken.write_bytes(b"")
    check_target(tmp_path / "free", overwrite=False)
    check_target(taken, overwrite=True)
    with pytest.raises(InputError, match=r"taken.*overwrite=True"):
        check_target(taken, overwrite=False)
    with pytest.raises(InputError, match="is a folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r"existing folder.*missing"):
        check_target(tmp_path / "missing" / "file", overwrite=True)
    with pytest.raises(InputError, match="existing folder"):
        check_target(taken / "file", overwrite=True)
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        check_target(tmp_path / ("n" * 300), overwrite=True)
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
def test_a_folder_that_nobody_can_write_to_is_refused():
    """Not even root, whom no permission stops, and who has all of them there."""
    with pytest.raises(InputError, match=r"'/proc/file' cannot be written: "):
        check_target(Path("/proc/file"), overwrite=False)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match=r"file' cannot be written: No space left on device\."):
        write_target(tmp_path / "file", b"new", overwrite=False)
    assert list(tmp_path.iterdir()) == []
