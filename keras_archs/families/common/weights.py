"""The `weights` argument: what it may say, where published files lie, loading them."""

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from ...errors import InputError, did_you_mean
from ...files import downloading, keras_home, local_path
from ...preprocessing import IMAGENET_CLASSES

STORAGE_URL = "https://storage.googleapis.com/"
SUFFIXES = (".weights.h5", ".keras", ".h5")


@dataclass(frozen=True)
class WeightsFile:
    """A file that keras.applications publishes.

    Attributes:
        path: below the folder.
        md5: its sum; None where keras.applications has none.
        folder: below the address of all files.
        without: name of a layer in the file that is preprocessing here, not part of the network.
    """

    path: str
    md5: str | None = None
    folder: str = "tensorflow/keras-applications"
    without: str | None = None

    def fetch(self) -> Path:
        """Path of the file in Keras' cache (`~/.keras/models`), downloaded if it is not there.

        Raises:
            InputError: it cannot be downloaded; the message says where to put it by hand.
        """
        name = Path(self.path).name
        origin = f"{STORAGE_URL}{self.folder}/{self.path}"
        home = keras_home()
        cached = home / "models" / name
        if cached.is_file() and not os.access(home, os.W_OK):
            return cached  # Keras does not look into a folder that it cannot write to
        with suppress(OSError):  # Keras then takes a folder below /tmp
            home.mkdir(parents=True, exist_ok=True)
        with downloading("weights='imagenet'", origin):
            file = keras.utils.get_file(
                name, origin, cache_subdir="models", file_hash=self.md5, cache_dir=str(home)
            )
        return Path(file)


@dataclass(frozen=True)
class ImageNet:
    """The ImageNet weights of one network, with the classifier and without."""

    top: WeightsFile
    no_top: WeightsFile

    def file(self, include_top: bool) -> WeightsFile:
        return self.top if include_top else self.no_top

    @classmethod
    def tf_kernels(cls, stem: str, md5: str, no_top_md5: str) -> "ImageNet":
        """The two files that keras.applications names by one pattern for most families."""
        stem += "_weights_tf_dim_ordering_tf_kernels"
        return cls(WeightsFile(f"{stem}.h5", md5), WeightsFile(f"{stem}_notop.h5", no_top_md5))


def check_weights(
    weights: str | Path | None,
    published: ImageNet | None,
    *,
    channels: int,
    include_top: bool,
    classes: int,
    classifier_activation: object,
) -> None:
    """Raises a ValueError for weights that cannot fit, before anything is built or downloaded."""
    if weights is None:
        return
    if weights != "imagenet":
        path = local_path(weights)
        if not path.is_file():
            raise InputError(
                f"weights={str(weights)!r} is not a file.{did_you_mean(str(weights), ['imagenet'])}"
                " Allowed are None, 'imagenet' or the path of an existing file."
            )
        if not path.name.endswith(SUFFIXES):
            raise InputError(f"weights={str(weights)!r} must end in {', '.join(SUFFIXES)}.")
        return
    if published is None:
        raise InputError(
            "weights='imagenet' is not published for this network with these arguments; allowed"
            " are None or the path of a file."
        )
    if channels != 3:
        raise InputError(f"weights='imagenet' needs 3 input channels, got {channels}.")
    if include_top and classes != IMAGENET_CLASSES:
        raise InputError(
            f"weights='imagenet' with the top needs classes={IMAGENET_CLASSES}, got {classes};"
            " use include_top=False to put your own classifier on the features."
        )
    if include_top and classifier_activation not in ("softmax", None):
        raise InputError(
            "weights='imagenet' with the top needs classifier_activation 'softmax' or None, got"
            f" {classifier_activation!r}."
        )


def load_weights(
    model: keras.Model, weights: str | Path | None, published: ImageNet | None, include_top: bool
) -> None:
    """Loads what `check_weights` let pass.

    Raises:
        ValueError: the file's tensors are not those of the model.
    """
    if weights is None:
        return
    without = None
    if weights == "imagenet" and published is not None:
        file = published.file(include_top)
        weights, without = file.fetch(), file.without
    try:
        if without:
            _load_without(model, Path(weights), without)
        else:
            model.load_weights(local_path(weights))
    except Exception as error:  # h5py, zipfile and Keras raise what they like on a foreign file
        reason = " ".join(str(error).split())
        raise InputError(
            f"weights={str(weights)!r} does not fit {model.name} with {model.count_params():,}"
            f" parameters: {reason[:300]}"
        ) from error


def _load_without(model: keras.Model, path: Path, layer: str) -> None:
    """Loads a legacy file as if one of its layers were not there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        with h5py.File(copy, "r+") as file:
            group = file.get("model_weights", file)
            names = [n if isinstance(n, str) else n.decode() for n in group.attrs["layer_names"]]
            group.attrs["layer_names"] = [name for name in names if name != layer]
        model.load_weights(copy)
