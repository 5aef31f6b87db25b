"""The command `recipes`. It does not import TensorFlow."""

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..runtime.errors import input_error
from .command_line import Parser, did_you_mean

# The files are read without importing `training`, which imports TensorFlow.
_FOLDER = Path(__file__).parents[2] / "training" / "settings" / "recipes"


def recipes(arguments: Sequence[str]) -> None:
    """Lists the recipes, or prints one.

    Raises:
        ValueError: there is no such recipe.
    """
    parser = Parser("recipes", "List the training recipes, or print one as YAML to read or edit.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="Recipe to print.")
    name = parser.parse_args(arguments).name
    files = {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}
    if name is None:
        print("\n\n".join(map(_summary, files.values())))
        return
    if name not in files:
        near = did_you_mean(name, files)
        raise input_error(f"There is no recipe {name!r}.{near} The recipes are {', '.join(files)}.")
    print(files[name].read_text(), end="")


def _summary(file: Path) -> str:
    recipe = yaml.safe_load(file.read_text())
    width = min(100, shutil.get_terminal_size().columns)
    lines = [recipe["description"].split(". ")[0].rstrip(".") + ".", f"Source: {recipe['source']}."]
    wrapped = [textwrap.indent(textwrap.fill(line, width - 4), "    ") for line in lines]
    return "\n".join([f"{recipe['name']} (version {recipe['version']})", *wrapped])
