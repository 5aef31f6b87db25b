"""Weights to start from, stages that stay as they are, learning rates by depth."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

import keras_archs
from keras_archs.errors import InputError, as_given
from keras_archs.files import local_path
from keras_archs.freezing import upstream
from keras_archs.graph import operations
from keras_archs.weights import IMAGENET_CLASSES, SUFFIXES

from .config import TrainConfig
from .run_folder import RunFolder, Settings

_SHOWN = 5


@dataclass(frozen=True)
class Saved:
    """A network that was trained before; with its settings, if it comes from a run."""

    network: keras.Model
    settings: Settings | None = None


def read_saved(argument: str, place: str) -> Saved:
    """The best model of a run's folder, or that of a `.keras` file.

    Raises:
        InputError: it is neither; the message names `argument`.
    """
    path, settings = local_path(place), None
    if path.is_dir():
        folder = RunFolder(path)
        settings, path = folder.read_settings(), folder.best
    if not path.is_file():
        raise InputError(f"{argument}={place!r} holds no model: {str(path)!r} does not exist.")
    try:
        return Saved(keras.saving.load_model(path, compile=False), settings)
    except Exception as error:  # Keras and zipfile raise what they like on a foreign file
        raise InputError(f"{argument}={place!r} is no Keras model: {_line(error)}") from error


def initialise(
    network: keras.Model,
    init: str,
    build: Callable[..., keras.Model],
    class_names: Sequence[str],
) -> None:
    """Gives a network the weights of another one of its kind.

    The classifier keeps its own where the other one tells other classes apart.

    Args:
        init: `"imagenet"`, a run's folder, a `.keras` file or a file of weights.
        build: makes another such network; takes `classes` and `weights`.
        class_names: of the network's outputs.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    path, names = local_path(init), None
    if init == "imagenet":
        with as_given("weights=", "init="):
            source = build(classes=IMAGENET_CLASSES, weights=init)
    elif path.is_dir() or path.suffix == ".keras":
        saved = read_saved("init", init)
        source = saved.network
        names = saved.settings.class_names if saved.settings else None
    elif path.is_file() and path.name.endswith(SUFFIXES):
        with as_given("weights=", "init="):
            source = build(classes=_classes(network, path), weights=init)
    else:
        raise InputError(
            f"init={init!r} is neither 'imagenet' nor an existing run folder, .keras file or file"
            " of weights."
        )
    _transfer(source, network, same_classes=names is None or tuple(names) == tuple(class_names))


def _transfer(source: keras.Model, network: keras.Model, same_classes: bool) -> None:
    theirs, ours = ([each for each in m.layers if each.weights] for m in (source, network))
    pairs = list(zip(theirs, ours, strict=False))
    misfits = [
        f"{mine.name} has {_shapes(mine)}, {other.name} there {_shapes(other)}"
        for other, mine in pairs[:-1]
        if _shapes(other) != _shapes(mine)
    ]
    if len(theirs) != len(ours):
        misfits.insert(0, f"{len(ours)} layers with weights, {len(theirs)} there")
    if misfits:
        raise InputError(f"init does not fit {network.name}: {_listed(misfits, '; ')}.")
    other, mine = pairs[-1]
    if not same_classes or _shapes(other) != _shapes(mine):
        pairs = pairs[:-1]
    for other, mine in pairs:
        mine.set_weights(other.get_weights())


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _classes(network: keras.Model, path: Path) -> int:
    """The number of classes of a file of weights: the length of the one vector left over."""
    found: list[tuple[int, ...]] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and "optimizer" not in name:
            found.append(item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(note)
    except OSError as error:
        raise InputError(f"init={str(path)!r} is no file of weights: {_line(error)}") from error
    layers = [each for each in network.layers if each.weights]
    ours = Counter(shape for layer in layers[:-1] for shape in _shapes(layer))
    if missing := list((ours - Counter(found)).elements()):
        raise InputError(
            f"init={str(path)!r} does not fit {network.name}: it has no weights of the shapes"
            f" {_listed(missing, ', ')}."
        )
    vectors = [shape for shape in (Counter(found) - ours).elements() if len(shape) == 1]
    if len(vectors) != 1:
        return network.output_shape[-1]  # loading then says what does not fit
    return vectors[0][0]


def _listed(misfits: Sequence[Any], separator: str) -> str:
    more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
    return separator.join(map(str, misfits[:_SHOWN])) + more


def freeze(network: keras.Model, config: TrainConfig) -> None:
    """Freezes what the settings ask for.

    Raises:
        InputError: the network has no such level or layer, or nothing is left to train.
    """
    if config.freeze is None and not config.freeze_batch_norm:
        return
    with as_given("until=", "freeze="):
        keras_archs.freeze(network, config.freeze, batch_norm=config.freeze_batch_norm)
    if not network.trainable_weights:
        raise InputError(f"freeze={config.freeze!r} leaves nothing of {network.name} to train.")


def layer_rates(model: keras.Model, decay: float | None) -> list[float]:
    """Factors on the learning rate of the trainable weights of a model, in their order.

    The classifier and all behind the last map have 1, the last stage `decay`, the one before
    `decay**2`, and so on (Bao et al. 2022, arXiv:2106.08254, by stages instead of blocks).
    """
    weights = model.trainable_weights
    if decay is None:
        return [1.0] * len(weights)
    stages = [upstream(model, each.name) for each in keras_archs.feature_info(model)]
    rates = {
        id(weight): decay ** sum(layer in stage for stage in stages)
        for _, layer in operations(model)
        for weight in getattr(layer, "weights", ())
    }
    return [rates[id(weight)] for weight in weights]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
