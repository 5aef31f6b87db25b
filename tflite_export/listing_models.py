"""The command `models`, which answers at once: it imports no TensorFlow."""

import ast
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from .command_line import Parser, did_you_mean
from .errors import input_error

# Beside this package. Its import would be that of Keras.
_BUILDERS = Path(__file__).parent.parent / "keras_archs" / "__init__.py"


def models(arguments: Sequence[str]) -> None:
    """Prints the names of the networks that match a pattern.

    Raises:
        ValueError: none does.
    """
    parser = Parser("models", "List the networks by name.")
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="Shell pattern, such as 'resnet*'. Case, '_' and '-' do not matter.",
    )
    pattern = parser.parse_args(arguments).pattern
    known = _model_names()
    matches = fnmatch.filter(known, _plain(pattern))
    if not matches:
        part = f"*{_plain(pattern)}*"
        near = did_you_mean(part, [part] if fnmatch.filter(known, part) else known)
        raise input_error(f"No network matches {pattern!r}.{near}")
    print("\n".join(matches))


def _model_names() -> list[str]:
    """Those of `keras_archs.list_models`, read from the imports of the package."""
    imports = (
        each
        for each in ast.parse(_BUILDERS.read_text()).body
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("families.")
    )
    # What else the families have to give are functions, in lower case.
    names = [
        alias.name.lower() for each in imports for alias in each.names if alias.name[0].isupper()
    ]
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def _plain(pattern: str) -> str:
    """As `keras_archs.list_models` reads it: a hyphen in brackets makes a range."""
    return re.sub(r"(\[[^]]*])|[-_. ]", r"\1", pattern.lower())
