"""What can be converted: a model, a file, a run, or a network with published weights."""

import json
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import Preprocessing, PreprocessInput, decode_predictions
from keras_archs.registry import find
from keras_archs.weights import IMAGENET_CLASSES

from .preparing import PIXELS

if TYPE_CHECKING:
    from training.run import Run


@dataclass(frozen=True)
class Source:
    """A model with what is known of it.

    Attributes:
        model: as it was trained.
        class_names: of its outputs, in their order.
        preprocessing: what it expects of its images: `PIXELS` if it begins with its own.
        folder: of the run that it comes from.
        crop: share of an image's shorter side that the centred square has which the run was
            evaluated on; None for the whole image.
    """

    model: keras.Model
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    folder: Path | None = None
    crop: float | None = None

    @cached_property
    def run(self) -> "Run | None":
        """The run with its images.

        Raises:
            InputError: its dataset cannot be found any more.
        """
        if self.folder is None:
            return None
        from keras_archs.training import load_run  # noqa: PLC0415  # a model or a file needs no training

        return load_run(self.folder)


def open_source(source: keras.Model | str | Path) -> Source:
    """Finds a model.

    Args:
        source: a Keras model; the path of a .keras file; the folder of a run, for its best model;
            or NAME:WEIGHTS, such as "mobilenet:imagenet" or "mobilenet:my.weights.h5".

    Raises:
        InputError: there is none there, or it has a layer of an unknown class.
    """
    if isinstance(source, keras.Model):
        return Source(source, preprocessing=_own_preprocessing(source))
    if not isinstance(source, str | Path):
        raise InputError(
            f"source must be a Keras model, a path or NAME:WEIGHTS, got {type(source).__name__}."
        )
    place = local_path(source)
    name, colon, weights = str(source).partition(":")
    if colon and not place.exists():
        return _published(name, weights)
    return _saved(place)


def _published(name: str, weights: str) -> Source:
    entry = find(name)
    model = entry.builder(weights=weights)
    names = _imagenet_names() if weights == "imagenet" else None
    return Source(model, names, entry.family.preprocessing)


def _saved(place: Path) -> Source:
    from keras_archs.training.finetuning import read_saved  # noqa: PLC0415  # a live model needs no training

    if not place.exists():
        raise InputError(
            f"source={str(place)!r} is neither a file, nor the folder of a run, nor NAME:WEIGHTS"
            " such as mobilenet:imagenet."
        )
    try:
        saved = read_saved("source", str(place))
    except InputError as error:
        file = place / "best.keras" if place.is_dir() else place
        if unknown := next(_unknown_layers(file), None):
            raise InputError(
                f"source={str(place)!r} has a layer {unknown[0]!r} of the class {unknown[1]}, which"
                " is not known here: register it with keras.saving.register_keras_serializable()"
                " and import it first, or give the model itself."
            ) from error
        raise
    model, settings = saved.network, saved.settings
    own = _own_preprocessing(model)
    if settings is None:
        return Source(model, preprocessing=own)
    expected = own or find(settings.config.model).family.preprocessing
    crop = settings.config.augmentation.test_share
    return Source(model, tuple(settings.class_names), expected, place, crop)


def _own_preprocessing(model: keras.Model) -> Preprocessing | None:
    begins = any(isinstance(layer, PreprocessInput) for layer in inner_layers(model))
    return PIXELS if begins else None


def _imagenet_names() -> tuple[str, ...] | None:
    try:
        best = decode_predictions(np.eye(IMAGENET_CLASSES), top=1)
    except Exception as error:  # Keras raises a bare one where there is no network
        warnings.warn(f"The names of ImageNet's classes are missing: {error}", stacklevel=2)
        return None
    return tuple(name for ((_, name, _),) in best)


def _unknown_layers(path: Path) -> Iterator[tuple[str, str]]:
    """Name and class of the layers in a .keras file whose class is neither Keras' nor registered.

    Classes that can be imported are known to Keras, too; this is for a file that it cannot read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return
    for item in _objects(config):
        registered = item.get("registered_name")
        foreign = not str(item.get("module")).startswith("keras")
        if foreign and registered and keras.saving.get_registered_object(registered) is None:
            inner = item.get("config")
            name = inner.get("name") if isinstance(inner, dict) else None
            yield str(name or item["class_name"]), item["class_name"]


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every saved object in the config of a model, the model itself first."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _objects(value)
