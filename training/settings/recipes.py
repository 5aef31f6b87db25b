"""Recipes: named, versioned settings in YAML files, from publications or measurements."""

import math
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from keras_archs.arguments import called_as
from keras_archs.errors import InputError, did_you_mean
from keras_archs.files import local_path

from .config import OPTIMIZER_SETTINGS, TrainConfig, learning_rate_factor, one_line, override

_FOLDER = resources.files(__package__) / "recipes"
_SUFFIXES = (".yaml", ".yml")


class Recipe(BaseModel):
    """The content of a recipe file.

    Attributes:
        name: name for `--recipe`, if the recipe ships with the package.
        version: increases with each change of the settings.
        source: paper and table, or another origin of the settings.
        description: purpose, and differences from the source.
        settings: fields of `TrainConfig`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    source: str
    description: str
    settings: dict[str, Any]


def list_recipes() -> list[Recipe]:
    """The recipes of the package, sorted by name."""
    files = (file for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIXES))
    return sorted(map(_read, files), key=lambda recipe: recipe.name)


def read_recipe(name: str | Path) -> Recipe:
    """Reads a recipe of the package by its name, or a `.yaml` file by its path.

    Raises:
        ValueError: the recipe does not exist, or its file is invalid.
    """
    return _read(_find(name))


@called_as(
    "training.load_recipe('finetune', model='mobilenet', dataset='image_folder:photos',"
    " init='imagenet')"
)
def load_recipe(name: str | Path, **overrides: Any) -> TrainConfig:
    """Returns the settings of a recipe, changed by `overrides`.

    `load_recipe("imagenet-resnet-rsb-a2", model="resnet50", dataset="image_folder:/imagenet")`

    A recipe's learning rates are for its own number of images in a step. Rates that `overrides`
    does not set scale with `batch_size` and `accumulate` like the defaults of `TrainConfig`.

    Args:
        name: name of a recipe of the package, or path of a `.yaml` file.
        **overrides: fields of `TrainConfig`. `model_args` are merged with those of the recipe. A
            warm-up that is longer than the overriding `epochs` is shortened in proportion, with a
            warning.

    Raises:
        ValueError: the recipe does not exist, or the recipe or an override is invalid.
    """
    recipe = read_recipe(name)
    base = dict(recipe.settings)
    if overrides.get("optimizer", base.get("optimizer")) != base.get("optimizer"):
        base = {key: value for key, value in base.items() if key not in OPTIMIZER_SETTINGS}
    settings = override(base, overrides, f"recipe {str(name)!r}")
    settings["recipe"] = f"{recipe.name} {recipe.version}"
    try:
        config = TrainConfig(**settings)
        ratio = _images_per_step(config.model_dump()) / _images_per_step(base)
        factor = learning_rate_factor(config.optimizer, ratio)
        rates = {key: base[key] for key in _RATES & base.keys() - overrides.keys()}
        return TrainConfig(**settings | {key: float(rate) * factor for key, rate in rates.items()})
    except InputError as error:
        raise InputError(f"recipe {str(name)!r}: {error}") from error


_RATES = {"learning_rate", "final_learning_rate"}


def _images_per_step(settings: Mapping[str, Any]) -> int:
    """Number of images in an optimizer step."""
    fields = TrainConfig.model_fields
    return math.prod(
        int(settings.get(name, fields[name].default)) for name in ("batch_size", "accumulate")
    )


def _find(name: str | Path) -> Traversable:
    if str(name).endswith(_SUFFIXES):
        path = local_path(name)
        if not path.is_file():
            raise InputError(f"recipe={str(name)!r} is not a file.")
        return path
    file = _FOLDER / f"{name}.yaml"
    if not file.is_file():
        names = [recipe.name for recipe in list_recipes()]
        raise InputError(
            f"recipe={str(name)!r} does not exist.{did_you_mean(str(name), names)} Allowed are"
            f" {', '.join(names)}, and files that end in .yaml."
        )
    return file


def _read(file: Traversable) -> Recipe:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"recipe={str(file)!r} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"recipe={str(file)!r} must be a mapping with the keys {', '.join(_KEYS)}."
        )
    try:
        return Recipe(**content)
    except ValidationError as error:
        raise InputError(f"recipe={str(file)!r}: {one_line(error, _KEYS)}") from error


_KEYS = list(Recipe.model_fields)
