"""The names `keras_archs.training` and `keras_archs.tflite_export` of this project's packages.

A notebook often has a file `training.py` or a folder `training/` beside it. Python then imports it
as `training`. The names inside `keras_archs` always give the packages of this project.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

NAMES = ("training", "tflite_export")
_ROOT = Path(__file__).parent.parent
_PREFIX = f"{__package__}."


def install() -> None:
    """Registers the names with Python's import system."""
    # First, because the usual finder would load modules inside such a package a second time.
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the interface's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        plain = fullname.removeprefix(_PREFIX)
        package = plain.partition(".")[0]
        if plain == fullname or package not in NAMES:
            return None
        if _plain_name_is_ours(package):
            spec = find_spec(plain)
            return spec and ModuleSpec(fullname, _Alias(spec), origin=spec.origin)
        if plain == package:
            folder = _ROOT / package
            return spec_from_file_location(
                fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
        return None  # the usual finder looks into the package's folder


class _Alias(InspectLoader):
    """Gives a second name to a module that is loaded once."""

    def __init__(self, spec: ModuleSpec) -> None:
        self._spec = spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002  # the interface's
        return import_module(self._spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system replaced it by the alias's spec

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002  # for `python -m`
        assert isinstance(self._spec.loader, InspectLoader)
        return self._spec.loader.get_code(self._spec.name)

    def get_source(self, fullname: str) -> str | None:  # noqa: ARG002  # for tracebacks
        assert isinstance(self._spec.loader, InspectLoader)
        return self._spec.loader.get_source(self._spec.name)


@cache  # the answer must stay the same after the first import
def _plain_name_is_ours(package: str) -> bool:
    module = sys.modules.get(package)
    if module is None:
        spec = find_spec(package)
        file = spec.origin if spec else None
    else:
        file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == (_ROOT / package / "__init__.py").resolve()
