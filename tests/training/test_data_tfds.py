"""Datasets of TFDS: which are taken, how they are split, what a user is told about the others."""

import re
import socket
import sys
from itertools import chain

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from keras_archs.errors import InputError
from tflite_export.cli.main import main
from training.data import open_dataset
from training.settings.config import TrainConfig


class ToyImages(tfds.core.GeneratorBasedBuilder):
    """The pixel of image i is i, its label i % 2; a config is the sizes of its splits, in order."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = {  # noqa: RUF012
        "train_only": {"train": 100},
        "all": {"train": 100, "validation": 20, "test": 30},
        "secret_test": {"train": 100, "test": 30},
        "test_only": {"test": 30},
        "more": {"train": 100, "unlabelled": 30},
    }
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in SPLITS]  # noqa: RUF012

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("picture", "kind"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            split: self._generate_examples(split, 100 * i, count)
            for i, (split, count) in enumerate(self.SPLITS[self.builder_config.name].items())
        }

    def _generate_examples(self, split, first, count):
        secret = split == "test" and self.builder_config.name == "secret_test"
        for i in range(first, first + count):
            pixel = np.array([[[i % 256, i // 256, 0]]], np.uint8)
            yield i, {"picture": pixel, "kind": -1 if secret else i % 2}


class OneKind(tfds.core.GeneratorBasedBuilder):
    """A dataset with one class, which it fails to prepare."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a"])}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        raise NotImplementedError

    def _generate_examples(self):
        raise NotImplementedError


def ids(dataset) -> list[int]:
    found = []
    for image, label in dataset.as_numpy_iterator():
        low, high, _ = image[0, 0].tolist()
        assert label == low % 2
        found.append(low + 256 * high)
    assert int(dataset.cardinality()) == len(found)
    return found


@pytest.mark.parametrize(
    ("config", "sizes"),
    [("train_only", (80, 10, 10)), ("all", (100, 20, 30)), ("secret_test", (80, 10, 10))],
)
def test_splits(tmp_path, config, sizes):
    data = open_dataset(f"toy_images/{config}", data_dir=tmp_path)
    splits = [ids(split) for split in (data.train, data.validation, data.test)]
    assert tuple(map(len, splits)) == sizes
    assert sorted(chain(*splits)) == (
        list(range(100)) if config != "all" else [*range(120), *range(200, 230)]
    )
    assert [ids(split) for split in (data.train, data.validation, data.test)] == splits
    assert data.class_names == ("even", "odd")
    assert data.image_shape == (None, None, 3)


@pytest.mark.full
def test_two_processes_preparing_at_once(tmp_path, monkeypatch):
    """The other process is a second builder that finishes while this one generates its images."""
    generators = ToyImages._split_generators

    def overtaken(self, dl_manager):
        monkeypatch.setattr(ToyImages, "_split_generators", generators)
        tfds.builder("toy_images/all", data_dir=tmp_path).download_and_prepare()
        return generators(self, dl_manager)

    monkeypatch.setattr(ToyImages, "_split_generators", overtaken)
    data = open_dataset("toy_images/all", data_dir=tmp_path)
    assert sorted(ids(data.validation)) == list(range(100, 120))
    assert not list(tmp_path.rglob("incomplete*"))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda _: None, "No such file"),
        (lambda _: b"", "0"),
        (lambda content: content[:100], "truncated record at 0"),
        (lambda content: content[:-1], "19 and a partial record"),
        (lambda content: content[: content.rindex(b"picture")], "19 and a partial record"),
        (lambda content: content[:8], "0"),
        (lambda content: bytes(len(content)), "corrupted record at 0"),
        (lambda content: content + content[: len(content) // 20], "21"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path, damage, found):
    open_dataset("toy_images/all", data_dir=tmp_path)
    (shard,) = tmp_path.rglob("*-validation.tfrecord-*")
    content = damage(shard.read_bytes())
    shard.unlink() if content is None else shard.write_bytes(content)
    message = (
        f"{shard.name} is missing, truncated or not in tfrecord format; .* 20 records, found: .*"
    )
    with pytest.raises(InputError, match=message + found):
        open_dataset("toy_images/all", data_dir=tmp_path)


def test_a_shard_that_is_not_read_may_be_missing(tmp_path):
    open_dataset("toy_images/more", data_dir=tmp_path)
    (shard,) = tmp_path.rglob("*-unlabelled.tfrecord-*")
    shard.unlink()
    assert len(ids(open_dataset("toy_images/more", data_dir=tmp_path).train)) == 80


def test_shards_of_a_size_that_was_not_noted(tmp_path):
    open_dataset("toy_images/all", data_dir=tmp_path)
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(re.sub('"numBytes": "[0-9]+"', '"numBytes": "0"', info.read_text()))
    assert len(ids(open_dataset("toy_images/all", data_dir=tmp_path).test)) == 30


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ("train --model mobilenet --dataset x --out run", "train.training.train"),
        ("data prepare x --out shards", "data.prepare"),
        ("export mobilenet:imagenet --dataset x", "export.write_export"),
    ],
)
def test_a_data_dir_in_a_bucket_is_taken_as_it_is(monkeypatch, words, called):
    def stop(config=None, *_, **options):
        given.append(config.data_dir if isinstance(config, TrainConfig) else options["data_dir"])
        raise InputError("enough")

    given: list[object] = []
    monkeypatch.setattr(f"tflite_export.cli.{called}", stop)
    monkeypatch.setattr(sys, "argv", ["keras-archs", *words.split(), "--data-dir", "gs://bucket/x"])
    with pytest.raises(SystemExit):
        main()
    assert given == ["gs://bucket/x"]


def test_failed_download(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("the network is down")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)
    message = (
        r"tf_flowers.*needs a network connection.*--data-dir.* http\S+/flower_photos.tgz cannot"
    )
    with pytest.raises(InputError, match=message) as error:
        open_dataset("tf_flowers", data_dir=tmp_path)
    assert str(tmp_path / "tf_flowers") in str(error.value)
    assert error.value.__suppress_context__, "a page of traceback"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fashion_mnist_smal", "named 'fashion_mnist_smal'.*'fashion_mnist_small'.*image_folder:"),
        ("cifra10:3.0.2", "named 'cifra10'.*'cifar10'"),
        ("cifar10:9.9.9", "9.9.9"),
        ("cifar10/nonsense", "nonsense"),
        ("no such thing!", "no such thing!"),
        ("", "dataset '' is not a TFDS dataset, image_folder:PATH, tfrecord:PATTERN or tfds"),
        ("images:/a/b", "dataset 'images:/a/b' is not a TFDS dataset, image_folder:PATH, "),
        ("imdb_reviews", "imdb_reviews.*features are text, label"),
        ("celeb_a", "celeb_a.*features are image, landmarks, attributes, identity"),
        ("one_kind", "1 class found .a.; classification needs 2"),
        ("toy_images/test_only", "no train split, only test"),
    ],
)
def test_refused(tmp_path, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(spec, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(InputError, match=f"seed must be from 0 to 4294967295, got {seed}"):
        open_dataset("fashion_mnist_small", seed=seed)
