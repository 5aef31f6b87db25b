"""Every public name imported before all others, and the packages beside files with their names."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGES = ("keras_archs", "training", "tflite_export")
ROOT = Path(__file__).parents[1]

# Python imports a package before what is in it. So a copy of a process that has imported the
# package alone is all that a module needs to be imported first. What the package has imported
# needs no copy. A new interpreter for each name would spend minutes on importing TensorFlow.
IMPORT_EACH_FIRST = """
import os, sys
from importlib import import_module
from pkgutil import iter_modules
import keras, pydantic, tensorflow, tensorflow_datasets

def apart(function, *arguments):
    child = os.fork()
    if not child:
        try:
            function(*arguments)
        except BaseException as error:
            print(f"{arguments}: {type(error).__name__}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)

def visit(name):
    module = import_module(name)
    for public in getattr(module, "__all__", ()):
        if public not in vars(module):
            apart(getattr, module, public)
    for inner in iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if inner.name in sys.modules:
            visit(inner.name)
        elif not inner.name.endswith(".__main__"):
            apart(visit, inner.name)
    print(name, flush=True)

for package in sys.argv[1:]:
    apart(visit, package)
"""


def python(code, folder, *arguments):
    """Runs code in a folder, with the project's packages after the folder's own files."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def modules():
    """Yields the name of each module and package."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            *folders, name = file.relative_to(ROOT).with_suffix("").parts
            if name != "__main__":
                yield ".".join(folders if name == "__init__" else [*folders, name])


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_name_and_module_can_be_imported_first(tmp_path):
    ended = python(IMPORT_EACH_FIRST, tmp_path, *PACKAGES)
    printed = ended.stdout.splitlines()
    assert sorted(printed) == sorted(modules()), ended.stdout + ended.stderr[-2000:]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_files_of_the_users_with_our_names(tmp_path, kind):
    """A process in a folder with a `training` and a `tflite_export` trains and exports."""
    for name in ("training", "tflite_export"):
        file = tmp_path / f"{name}.py" if kind == "file" else tmp_path / name / "__init__.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("MINE = True\n")
    ended = python(
        """
        import training
        from pathlib import Path

        import keras_archs
        from keras_archs.tflite_export.runtime.classifier import Classifier
        from keras_archs.training.settings.config import TrainConfig

        import tflite_export
        assert training.MINE and tflite_export.MINE
        assert TrainConfig is keras_archs.training.TrainConfig
        keras_archs.training.train(
            TrainConfig(
                model="mobilenet", model_args={"alpha": 0.25}, dataset="fashion_mnist_small",
                image_size=32, epochs=1, batch_size=1000, warmup_epochs=0,
            ),
            "run",
        )
        assert keras_archs.training.load_recipe("fast", model="mobilenet", dataset="x").recipe
        made = keras_archs.tflite_export.export("run", "int8", test_images=64, min_agreement=0)
        assert isinstance(made.conversion, keras_archs.tflite_export.Conversion)
        assert Classifier(made.path).classes == 10
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.full
def test_one_copy_where_nothing_hides_the_packages(tmp_path):
    ended = python(
        """
        import sys
        import keras_archs.tflite_export.runtime.metadata, tflite_export.runtime.metadata
        import keras_archs, training, keras_archs.training.data
        assert keras_archs.training is training and training.__spec__.name == "training"
        assert sys.modules["keras_archs.training.data"] is sys.modules["training.data"]
        assert keras_archs.tflite_export.Metadata is tflite_export.Metadata
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.full
def test_modules_run_as_scripts_by_either_name(tmp_path):
    """`python -m keras_archs.training.jax_workers`, as documented by its plain name."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "keras_archs.training.jax_workers", "--help"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "--config" in ended.stdout
