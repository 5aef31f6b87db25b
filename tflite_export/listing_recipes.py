"""The command `recipes`, which answers at once: it imports no TensorFlow."""

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from .command_line import Parser, did_you_mean
from .errors import input_error

# Beside this package. The import of `training` would be that of TensorFlow.
_FOLDER = Path(__file__).parent.parent / "training" / "recipes"


def recipes(arguments: Sequence[str]) -> None:
    """Prints what recipes there are, or one of them.

    Raises:
        ValueError: there is no such recipe.
    """
    parser = Parser("recipes", "List the recipes of training, or print one to read or to change.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="Recipe to print.")
    name = parser.parse_args(arguments).name
    files = {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}
    if name is None:
        print("\n\n".join(map(_summary, files.values())))
        return
    if name not in files:
        near = did_you_mean(name, files)
        raise input_error(f"There is no recipe {name!r}.{near} There are {', '.join(files)}.")
    print(files[name].read_text(), end="")


def _summary(file: Path) -> str:
    recipe = yaml.safe_load(file.read_text())
    width = min(100, shutil.get_terminal_size().columns)
    lines = [recipe["description"].split(". ")[0].rstrip(".") + ".", f"From: {recipe['source']}."]
    wrapped = [textwrap.indent(textwrap.fill(line, width - 4), "    ") for line in lines]
    return "\n".join([f"{recipe['name']} (version {recipe['version']})", *wrapped])
