"""Opens the source of an export: a model, a .keras file, a run, or NAME:WEIGHTS."""

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
from keras_archs.preprocessing import (
    IMAGENET_CLASSES,
    PIXELS,
    Preprocessing,
    PreprocessInput,
    decode_predictions,
)
from keras_archs.registry import find

if TYPE_CHECKING:
    from training.runs.run import Run


@dataclass(frozen=True)
class Source:
    """A model with its class names and its preprocessing.

    Attributes:
        model: the model as trained.
        class_names: names of the classes, in the order of the outputs; None if unknown.
        preprocessing: preprocessing of the images; `PIXELS` if the model contains its own, None if
            unknown.
        folder: folder of the run, if the model is from a run.
        crop: side of the centre crop for evaluation, as a share of the shorter side of the image;
            None for no crop.
    """

    model: keras.Model
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    folder: Path | None = None
    crop: float | None = None

    @cached_property
    def run(self) -> "Run | None":
        """The run with its images; None if the model is not from a run.

        Raises:
            InputError: the dataset of the run does not exist any more.
        """
        if self.folder is None:
            return None
        from keras_archs.training import load_run  # noqa: PLC0415  # for runs only

        return load_run(self.folder)


def open_source(source: keras.Model | str | Path) -> Source:
    """Opens a model and finds its class names and its preprocessing.

    Args:
        source: a Keras model; the path of a .keras file; the folder of a run (its best model);
            or NAME:WEIGHTS, such as "mobilenet:imagenet" or "mobilenet:my.weights.h5".

    Raises:
        InputError: the model does not exist or cannot be read, or it has a layer of an unknown
            class.
    """
    if isinstance(source, keras.Model):
        return Source(source, preprocessing=_own_preprocessing(source))
    if not isinstance(source, str | Path):
        raise InputError(
            f"source must be a Keras model, a path or NAME:WEIGHTS, got {type(source).__name__}."
        )
    path = local_path(source)
    name, colon, weights = str(source).partition(":")
    if colon and not path.exists():
        return _published(name, weights)
    return _saved(path)


def _published(name: str, weights: str) -> Source:
    entry = find(name)
    model = entry.builder(weights=weights)
    names = _imagenet_names() if weights == "imagenet" else None
    return Source(model, names, entry.family.preprocessing)


def _saved(path: Path) -> Source:
    from keras_archs.training.model.finetuning import read_saved  # noqa: PLC0415  # not for models in memory

    if not path.exists():
        raise InputError(
            f"source={str(path)!r} does not exist. It must be a .keras file, the folder of a run,"
            " or NAME:WEIGHTS such as mobilenet:imagenet."
        )
    try:
        saved = read_saved("source", str(path))
    except InputError as error:
        file = path / "best.keras" if path.is_dir() else path
        if unknown := next(_unknown_layers(file), None):
            raise InputError(
                f"source={str(path)!r} has a layer {unknown[0]!r} of the unknown class"
                f" {unknown[1]}. Register the class with"
                " keras.saving.register_keras_serializable() and import it first, or pass the model"
                " itself."
            ) from error
        raise
    model, settings = saved.network, saved.settings
    inside = _own_preprocessing(model)
    if settings is None:
        return Source(model, preprocessing=inside)
    preprocessing = inside or find(settings.config.model).family.preprocessing
    crop = settings.config.augmentation.test_share
    return Source(model, tuple(settings.class_names), preprocessing, path, crop)


def _own_preprocessing(model: keras.Model) -> Preprocessing | None:
    """Returns `PIXELS` if the model contains its preprocessing, else None: it is unknown."""
    contains = any(isinstance(layer, PreprocessInput) for layer in inner_layers(model))
    return PIXELS if contains else None


def _imagenet_names() -> tuple[str, ...] | None:
    try:
        best = decode_predictions(np.eye(IMAGENET_CLASSES), top=1)
    except Exception as error:  # Keras raises a plain Exception without a network
        warnings.warn(f"The names of the ImageNet classes are missing: {error}", stacklevel=2)
        return None
    return tuple(name for ((_, name, _),) in best)


def _unknown_layers(path: Path) -> Iterator[tuple[str, str]]:
    """Yields name and class of each layer of a .keras file whose class is unknown to Keras.

    It is for a file that Keras cannot read. Keras also finds classes that it can import, so a class
    that is not registered here may not be the reason.
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
    """Yields each saved object in the config of a model, the model itself first."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _objects(value)
