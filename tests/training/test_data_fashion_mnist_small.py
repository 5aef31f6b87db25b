"""The shipped images, against checksums and against the files that they were drawn from."""

import gzip
import hashlib
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import training.data

FOLDER = Path(training.data.__file__).parent / "fashion_mnist_small"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHA256 = {
    "train-images-idx3-ubyte": "d57c83ad0a567090667d7d401d8fa544b829c78092bf9b8cd85bf6aa404fb337",
    "train-labels-idx1-ubyte": "e7d769a4e4b85c9385eb8c82bb56552b5516012f12c493e208944148d3debc18",
    "t10k-images-idx3-ubyte": "7942cc9fa44d11f915e95bc144dd3620e9120d3e8c29bebebf49784abedea67d",
    "t10k-labels-idx1-ubyte": "db011f51128d9a0001aa90116d3f718191e9f880a5f8ce62147cc86a247666a2",
}
needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def rows(split: str, read=lambda name: (FOLDER / name).read_bytes()) -> np.ndarray:
    """uint8 [n, 785]: 784 pixels and the label, past idx headers of 16 and 8 bytes."""
    images = np.frombuffer(read(f"{split}-images-idx3-ubyte"), np.uint8, offset=16)
    labels = np.frombuffer(read(f"{split}-labels-idx1-ubyte"), np.uint8, offset=8)
    return np.column_stack([images.reshape(-1, 784), labels])


def as_multiset(found: np.ndarray) -> list[bytes]:
    return sorted(row.tobytes() for row in found)


@pytest.mark.parametrize("name", SHA256)
def test_shipped_bytes(name):
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == SHA256[name]


@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("t10k", 200)])
def test_classes_are_even_and_mixed(split, per_class):
    labels = rows(split)[:, -1]
    assert np.bincount(labels).tolist() == [per_class] * 10
    assert len(np.unique(labels[:200])) == 10


@needs_debian
@pytest.mark.parametrize("split", ["train", "t10k"])
def test_every_image_has_the_label_of_its_original(split):
    originals = rows(split, lambda name: gzip.decompress((DEBIAN / f"{name}.gz").read_bytes()))
    assert {row.tobytes() for row in rows(split)} <= {row.tobytes() for row in originals}


@pytest.mark.full
@needs_debian
def test_make_writes_the_same_bytes(tmp_path):
    module = "training.data.fashion_mnist_small.make"
    command = [sys.executable, "-m", module, "--source", str(DEBIAN), "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=FOLDER.parents[2])
    assert {path.name for path in tmp_path.iterdir()} == set(SHA256)
    for name in SHA256:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.mark.full
def test_tfds_load_needs_no_network(data_dir, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: asked.append(args))
    dataset, info = tfds.load(
        "fashion_mnist_small", split="train", as_supervised=True, data_dir=data_dir, with_info=True
    )
    found = [np.append(image.ravel(), label) for image, label in dataset.as_numpy_iterator()]
    assert as_multiset(np.array(found, np.uint8)) == as_multiset(rows("train"))
    assert info.features["image"].shape == (28, 28, 1)
    # The table of labels in Fashion-MNIST's own README.
    assert ", ".join(info.features["label"].names) == (
        "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
    )
    assert not asked


def test_open_dataset_holds_validation_out_of_train_only(data_dir):
    data = training.data.open_dataset("fashion_mnist_small", data_dir=data_dir)
    found = {
        split: np.array(
            [np.append(image.ravel(), label) for image, label in dataset.as_numpy_iterator()],
            np.uint8,
        )
        for split, dataset in {
            "train": data.train,
            "validation": data.validation,
            "test": data.test,
        }.items()
    }
    assert {split: len(r) for split, r in found.items()} == {
        "train": 9000,
        "validation": 1000,
        "test": 2000,
    }
    both = np.concatenate([found["train"], found["validation"]])
    assert as_multiset(both) == as_multiset(rows("train"))
    assert as_multiset(found["test"]) == as_multiset(rows("t10k"))
    assert data.image_shape == (28, 28, 1)
