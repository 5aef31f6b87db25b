"""Fine-tuning: initial weights, frozen stages, and learning rates by depth."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

import keras_archs
from keras_archs.errors import InputError, as_given
from keras_archs.families.common.weights import SUFFIXES
from keras_archs.files import local_path
from keras_archs.graph import operations
from keras_archs.preprocessing import IMAGENET_CLASSES
from keras_archs.transforms.freeze import upstream

from ..runs.run_folder import RunFolder, Settings
from ..settings.config import TrainConfig

_SHOWN = 5


@dataclass(frozen=True)
class Saved:
    """A saved network, with its settings if it comes from a run."""

    network: keras.Model
    settings: Settings | None = None


def read_saved(argument: str, place: str) -> Saved:
    """Loads the best model from a run's folder, or the model in a `.keras` file.

    Raises:
        InputError: `place` is neither. The message names `argument`.
    """
    path, settings = local_path(place), None
    if path.is_dir():
        folder = RunFolder(path)
        settings, path = folder.read_settings(), folder.best
    if not path.is_file():
        raise InputError(
            f"{argument}={place!r} does not contain a model: {str(path)!r} does not exist."
        )
    try:
        return Saved(keras.saving.load_model(path, compile=False), settings)
    except Exception as error:  # Keras and zipfile raise many types for a foreign file
        raise InputError(f"{argument}={place!r} is not a Keras model: {_line(error)}") from error


def initialise(
    network: keras.Model,
    init: str,
    build: Callable[..., keras.Model],
    class_names: Sequence[str],
) -> None:
    """Loads saved weights of the same architecture into a network.

    If the classes differ, the classifier keeps its new weights.

    Args:
        network: network that gets the weights.
        init: `"imagenet"`, a run's folder, a `.keras` file or a weights file.
        build: builds the network's architecture with arguments `classes` and `weights`.
        class_names: class names of the network's outputs.

    Raises:
        InputError: the weights do not exist or do not fit.
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
            f"init={init!r} is neither 'imagenet' nor an existing run folder, .keras file or"
            " weights file."
        )
    _transfer(source, network, same_classes=names is None or tuple(names) == tuple(class_names))


def _transfer(source: keras.Model, network: keras.Model, same_classes: bool) -> None:
    source_layers, layers = (
        [layer for layer in model.layers if layer.weights] for model in (source, network)
    )
    pairs = list(zip(source_layers, layers, strict=False))
    differences = [
        f"{layer.name} has {_shapes(layer)}, but {source_layer.name} in init has"
        f" {_shapes(source_layer)}"
        for source_layer, layer in pairs[:-1]
        if _shapes(source_layer) != _shapes(layer)
    ]
    if len(source_layers) != len(layers):
        differences.insert(0, f"{len(layers)} layers with weights, {len(source_layers)} in init")
    if differences:
        raise InputError(f"init does not fit {network.name}: {_listed(differences, '; ')}.")
    source_layer, layer = pairs[-1]
    if not same_classes or _shapes(source_layer) != _shapes(layer):
        pairs = pairs[:-1]
    for source_layer, layer in pairs:
        layer.set_weights(source_layer.get_weights())


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _classes(network: keras.Model, path: Path) -> int:
    """The number of classes in a weights file: the length of its only other vector.

    All other weights belong to the layers before the classifier.
    """
    file_shapes: list[tuple[int, ...]] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and "optimizer" not in name:
            file_shapes.append(item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except OSError as error:
        raise InputError(f"init={str(path)!r} is not a weights file: {_line(error)}") from error
    layers = [layer for layer in network.layers if layer.weights]
    shapes = Counter(shape for layer in layers[:-1] for shape in _shapes(layer))
    if missing := list((shapes - Counter(file_shapes)).elements()):
        raise InputError(
            f"init={str(path)!r} does not fit {network.name}: the file has no weights of the shapes"
            f" {_listed(missing, ', ')}."
        )
    vectors = [shape for shape in (Counter(file_shapes) - shapes).elements() if len(shape) == 1]
    if len(vectors) != 1:
        return network.output_shape[-1]  # loading then reports the mismatch
    return vectors[0][0]


def _listed(items: Sequence[Any], separator: str) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(map(str, items[:_SHOWN])) + more


def freeze(network: keras.Model, config: TrainConfig) -> None:
    """Freezes stages and batch norms of a network as the settings say.

    Raises:
        InputError: the network does not have the level or layer, or all weights would be frozen.
    """
    if config.freeze is None and not config.freeze_batch_norm:
        return
    with as_given("until=", "freeze="):
        keras_archs.freeze(network, config.freeze, batch_norm=config.freeze_batch_norm)
    if not network.trainable_weights:
        raise InputError(
            f"freeze={config.freeze!r} freezes all weights of {network.name}; give an earlier"
            " stage."
        )


def layer_rates(model: keras.Model, decay: float | None) -> list[float]:
    """Returns the learning rate factors of a model's trainable weights, in their order.

    The factor is 1 for the classifier and all layers after the last feature map, `decay` for the
    last stage, `decay**2` for the stage before it, and so on. Source: Bao et al. 2022,
    arXiv:2106.08254, with stages instead of blocks.
    """
    weights = model.trainable_weights
    if decay is None:
        return [1.0] * len(weights)
    stages = [upstream(model, feature.name) for feature in keras_archs.feature_info(model)]
    rates = {
        id(weight): decay ** sum(layer in stage for stage in stages)
        for _, layer in operations(model)
        for weight in getattr(layer, "weights", ())
    }
    return [rates[id(weight)] for weight in weights]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
