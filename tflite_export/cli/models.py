"""The command `models`. It does not import TensorFlow."""

import ast
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from ..runtime.errors import input_error
from .command_line import Parser, did_you_mean

# The file is parsed, not imported: importing keras_archs imports Keras.
_BUILDERS = Path(__file__).parents[2] / "keras_archs" / "__init__.py"


def models(arguments: Sequence[str]) -> None:
    """Prints the names of the networks that match a pattern.

    Raises:
        ValueError: no network matches.
    """
    parser = Parser("models", "List the networks by name.")
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="Shell pattern, such as 'resnet*'. Case, '_' and '-' are ignored.",
    )
    pattern = parser.parse_args(arguments).pattern
    known = _model_names()
    matches = fnmatch.filter(known, _plain(pattern))
    if not matches:
        part = f"*{_plain(pattern)}*"
        near = did_you_mean(part, [part] if fnmatch.filter(known, part) else known)
        raise input_error(
            f"No network matches {pattern!r}.{near} keras-archs models lists all networks."
        )
    print("\n".join(matches))


def _model_names() -> list[str]:
    """Returns the names that `keras_archs.list_models` returns.

    It reads them from the imports in `keras_archs/__init__.py`.
    """
    imports = (
        statement
        for statement in ast.parse(_BUILDERS.read_text()).body
        if isinstance(statement, ast.ImportFrom)
        and (statement.module or "").startswith("families.")
    )
    # Builders have capital letters. Other functions of the families have not.
    names = [
        alias.name.lower()
        for statement in imports
        for alias in statement.names
        if alias.name[0].isupper()
    ]
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def _plain(pattern: str) -> str:
    """Removes separators and case, as `keras_archs.list_models` does.

    A hyphen in brackets is part of a range and stays.
    """
    return re.sub(r"(\[[^]]*])|[-_. ]", r"\1", pattern.lower())
