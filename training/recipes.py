"""Named, versioned settings of published or measured trainings, as YAML files."""

import math
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from keras_archs.errors import InputError, did_you_mean
from keras_archs.files import local_path

from .calling import called_as
from .config import OF_OPTIMIZER, TrainConfig, one_line, overridden, scale_of_rate

_FOLDER = resources.files(__package__) / "recipes"
_SUFFIXES = (".yaml", ".yml")


class Recipe(BaseModel):
    """A recipe's file.

    Attributes:
        name: by which it is asked for, if it is one of ours.
        version: rises with each change of the settings.
        source: paper and table, or where the settings come from.
        description: what it is for, and how it departs from its source.
        settings: fields of `TrainConfig`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    source: str
    description: str
    settings: dict[str, Any]


def list_recipes() -> list[Recipe]:
    """The recipes that come with the package, by name."""
    files = (each for each in _FOLDER.iterdir() if each.name.endswith(_SUFFIXES))
    return sorted(map(_read, files), key=lambda recipe: recipe.name)


def read_recipe(name: str | Path) -> Recipe:
    """A recipe of the package by its name, or that of a `.yaml` file.

    Raises:
        ValueError: there is no such recipe, or its file is wrong.
    """
    return _read(_find(name))


@called_as(
    "training.load_recipe('finetune', model='mobilenet', dataset='image_folder:photos',"
    " init='imagenet')"
)
def load_recipe(name: str | Path, **overrides: Any) -> TrainConfig:
    """Settings from a recipe: its own, and over them those given here.

    `load_recipe("imagenet-resnet-rsb-a2", model="resnet50", dataset="image_folder:/imagenet")`

    The learning rates of a recipe are for its own number of images in a step. Unless one is given,
    they follow `batch_size` and `accumulate` as `TrainConfig`'s defaults do.

    Args:
        name: of a recipe of the package, or the path of a `.yaml` file.
        **overrides: fields of `TrainConfig`; `model_args` are added to the recipe's. A warm-up of
            the recipe that is longer than the `epochs` given is shortened in proportion, with a
            warning.

    Raises:
        ValueError: there is no such recipe, or it or an override is wrong.
    """
    recipe = read_recipe(name)
    own = dict(recipe.settings)
    if overrides.get("optimizer", own.get("optimizer")) != own.get("optimizer"):
        own = {key: value for key, value in own.items() if key not in OF_OPTIMIZER}
    settings = overridden(own, overrides, f"recipe {str(name)!r}")
    settings["recipe"] = f"{recipe.name} {recipe.version}"
    try:
        config = TrainConfig(**settings)
        ratio = _images(config.model_dump()) / _images(own)
        factor = scale_of_rate(config.optimizer, ratio)
        rates = {key: own[key] for key in _RATES & own.keys() - overrides.keys()}
        return TrainConfig(**settings | {key: float(rate) * factor for key, rate in rates.items()})
    except InputError as error:
        raise InputError(f"recipe {str(name)!r}: {error}") from error


_RATES = {"learning_rate", "final_learning_rate"}


def _images(settings: Mapping[str, Any]) -> int:
    """In a step of the optimizer."""
    fields = TrainConfig.model_fields
    return math.prod(
        int(settings.get(name, fields[name].default)) for name in ("batch_size", "accumulate")
    )


def _find(name: str | Path) -> Traversable:
    if str(name).endswith(_SUFFIXES):
        path = local_path(name)
        if not path.is_file():
            raise InputError(f"recipe={str(name)!r} is no file.")
        return path
    file = _FOLDER / f"{name}.yaml"
    if not file.is_file():
        names = [recipe.name for recipe in list_recipes()]
        raise InputError(
            f"There is no recipe {str(name)!r}.{did_you_mean(str(name), names)} There are"
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
        raise InputError(f"recipe={str(file)!r} must be a mapping of {', '.join(_KEYS)}.")
    try:
        return Recipe(**content)
    except ValidationError as error:
        raise InputError(f"recipe={str(file)!r}: {one_line(error, _KEYS)}") from error


_KEYS = list(Recipe.model_fields)
