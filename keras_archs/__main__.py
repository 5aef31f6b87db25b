"""`python -m keras_archs` runs the installed command, whose module is above this package."""

from importlib import import_module
from importlib.metadata import entry_points

if __name__ == "__main__":
    (command,) = entry_points(group="console_scripts", name="keras-archs")
    # By the name inside keras_archs, which no file of the user can hide.
    getattr(import_module(f"keras_archs.{command.module}"), command.attr)()
