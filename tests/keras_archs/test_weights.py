"""The weights argument, against files that keras.applications' own models wrote."""

import dataclasses
import functools
import hashlib
import http.server
import importlib
import os
import re
import threading
import traceback
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.errors import InputError
from keras_archs.families.common import weights
from tests.keras_archs.helpers import images, randomize


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server of the folder that it returns, in the place of keras.applications' address."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(weights, "STORAGE_URL", url)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    yield folder
    server.shutdown()
    server.server_close()


def write(reference, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    reference.save(path)
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("include_top", [True, False])
def test_imagenet_weights_of_mobilenet_are_downloaded(published, include_top):
    shape = {"input_shape": (160, 160, 3), "include_top": include_top, "alpha": 0.25}
    reference = keras.applications.MobileNet(weights=None, **shape)
    randomize(reference)
    suffix = "" if include_top else "_no_top"
    write(
        reference,
        published / f"tensorflow/keras-applications/mobilenet/mobilenet_2_5_160_tf{suffix}.h5",
    )
    model = keras_archs.MobileNet(weights="imagenet", **shape)
    x = images(160)
    np.testing.assert_allclose(model(x), reference(x), atol=1e-5)


def test_imagenet_weights_are_checked_against_their_md5(published, monkeypatch):
    reference = keras.applications.ResNet50(weights=None, include_top=False)
    name = "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    md5 = write(reference, published / "tensorflow/keras-applications" / name)
    with pytest.raises(ValueError, match=r"(?i)hash|incomplete or outdated"):
        keras_archs.ResNet50(weights="imagenet", include_top=False)

    file = weights.WeightsFile(name, md5)
    monkeypatch.setattr(weights.ImageNet, "file", lambda *_: file)
    model = keras_archs.ResNet50(weights="imagenet", include_top=False)
    np.testing.assert_array_equal(model.get_weights()[0], reference.get_weights()[0])


@pytest.mark.full
def test_imagenet_weights_of_efficientnet_without_their_normalization(published, monkeypatch):
    """The published files hold the mean and variance of the pixels; here they are preprocessing."""
    reference = keras.applications.EfficientNetB0(weights=None, include_top=False)
    randomize(reference)
    md5 = write(reference, published / "keras-applications/efficientnetb0_notop.h5")
    file = dataclasses.replace(keras_archs.efficientnet.RELEASED[0].imagenet.no_top, md5=md5)
    monkeypatch.setattr(weights.ImageNet, "file", lambda *_: file)
    model = keras_archs.EfficientNetB0(weights="imagenet", include_top=False)
    x = images(64)
    np.testing.assert_allclose(model(x), reference(255 * x), atol=1e-4)


NAME = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"


class Broken(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path: with 404, with less than promised, not at all."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        if kind == "absent":
            self.send_error(404)
        elif kind != "silent":
            self.send_response(200)
            self.send_header("Content-Length", "1000" if kind == "half" else "4")
            self.end_headers()
            self.wfile.write(b"text")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def broken():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("{server}absent/", "404 -- Not Found"),
        ("{server}half/", "got only 4 out of 1000 bytes"),
        ("{server}other/", "hash does not match"),
        ("{server}silent/", "closed connection"),
        ("http://127.0.0.1:1/", "refused"),
        ("http://nowhere.invalid/", "Errno"),
    ],
)
def test_weights_that_cannot_be_downloaded(broken, no_cache, monkeypatch, address, reason):
    address = address.format(server=broken)
    monkeypatch.setattr(weights, "STORAGE_URL", address)
    with pytest.raises(InputError, match=re.escape(reason)) as error:
        keras_archs.ResNet50(weights="imagenet")
    message = "".join(traceback.format_exception(error.value)).splitlines()[-1]
    assert f"{address}tensorflow/keras-applications/resnet/{NAME}" in message
    assert str(no_cache / "models" / NAME) in message
    assert "During handling" not in "".join(traceback.format_exception(error.value))


def test_names_of_classes_that_cannot_be_downloaded(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request._opener", None)  # it knows the proxies of its first use
    # Private: Keras keeps the names once it has them, in this process and in its cache.
    monkeypatch.setattr("keras.src.applications.imagenet_utils.CLASS_INDEX", None)
    home = importlib.import_module("keras.src.backend.config").keras_home()
    if (Path(home) / "models" / "imagenet_class_index.json").exists():
        pytest.skip("Keras has the file in its cache")
    message = r"class_names=None: (https://\S+/imagenet_class_index.json) cannot .*refused"
    with pytest.raises(InputError, match=message) as error:
        keras_archs.decode_predictions(np.zeros((1, 1000)))
    assert "put it at" in str(error.value)
    ours = re.match(message, str(error.value))[1]
    assert ours == keras.src.applications.imagenet_utils.CLASS_INDEX_PATH


@pytest.mark.full
def test_a_cache_that_cannot_be_written_to(broken, no_cache, monkeypatch):
    """An image of a container often has the files, in a folder of another user."""
    monkeypatch.setattr(weights, "STORAGE_URL", f"{broken}absent/")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != no_cache and access(path, mode)
    )
    (no_cache / "models").mkdir()
    reference = keras.applications.ResNet50(weights=None)
    reference.save(no_cache / "models" / NAME)
    model = keras_archs.ResNet50(weights="imagenet")
    np.testing.assert_array_equal(model.get_weights()[0], reference.get_weights()[0])


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_own_weights_in_every_format(tmp_path, suffix):
    model = keras_archs.MobileNet(alpha=0.25, input_shape=(64, 64, 3), classes=5)
    randomize(model)
    path = tmp_path / f"mine{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    again = keras_archs.MobileNet(
        alpha=0.25, input_shape=(64, 64, 3), classes=5, weights=path, name="other"
    )
    for ours, saved in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, saved)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ResNet18", "EfficientNetB0"])
def test_loading_by_name_into_a_second_build(tmp_path, name):
    """Layers of other shapes are left out, and no counter in a name puts one out of step."""
    arguments = {"input_shape": (32, 32, 3)}
    saved, second = (getattr(keras_archs, name)(classes=classes, **arguments) for classes in (5, 7))
    randomize(saved)
    saved.save(tmp_path / "m.h5")
    before = second.get_weights()[-1]
    second.load_weights(tmp_path / "m.h5", by_name=True, skip_mismatch=True)
    ours, theirs = (dict(zip(paths(m), m.get_weights(), strict=True)) for m in (second, saved))
    same = [path for path, weight in ours.items() if weight.shape == theirs[path].shape]
    assert len(ours) - len(same) == 2  # kernel and bias of the classifier
    for path in same:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    np.testing.assert_array_equal(second.get_weights()[-1], before)


def paths(model):
    return [weight.path for weight in model.weights]


@pytest.mark.parametrize(
    ("other", "suffix"),
    [
        *[({"classes": 7}, suffix) for suffix in (".weights.h5", ".keras", ".h5")],
        ({"alpha": 0.5}, ".weights.h5"),
        ({"include_top": False}, ".keras"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, suffix, other):
    saved = keras_archs.MobileNet(**{"alpha": 0.25, "classes": 5, **other})
    path = tmp_path / f"mine{suffix}"
    (saved.save_weights if suffix == ".weights.h5" else saved.save)(path)
    with pytest.raises(ValueError, match=r"weights='.*mine.* does not fit mobilenet_0.25_224"):
        keras_archs.MobileNet(alpha=0.25, classes=5, weights=path)


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    path = tmp_path / "deep.weights.h5"
    keras_archs.VGG13(include_top=False).save_weights(path)
    with pytest.raises(ValueError, match="does not fit vgg11"):
        keras_archs.VGG11(include_top=False, weights=path)


def test_a_file_that_is_no_weights_file_is_refused(tmp_path):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"broken.weights.h5' does not fit"):
        keras_archs.MobileNet(alpha=0.25, weights=path)


def test_another_spelling_of_imagenet_is_suggested():
    with pytest.raises(ValueError, match="Did you mean 'imagenet'"):
        keras_archs.MobileNet(weights="ImageNet")
