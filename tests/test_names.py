"""Every public name in a process of its own, and the packages beside files with their names."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGES = ("keras_archs", "training", "tflite_export")
ROOT = Path(__file__).parents[1]

# The parent has imported what the packages import, and nothing of them; each statement then runs
# in a copy of it. A new interpreter for each would spend minutes on importing TensorFlow.
RUN_EACH_ALONE = """
import os, sys, traceback
import keras, pydantic, tensorflow, tensorflow_datasets
for statement in sys.stdin.read().splitlines():
    child = os.fork()
    if not child:
        try:
            exec(statement)
        except BaseException as error:
            print(f"{statement}: {type(error).__name__}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print("all done")
"""


def python(code, folder, *, given=""):
    """Runs code in a folder, with the project's packages behind the folder's own files."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def names():
    """Yields a statement for each public name and each module, which imports it alone."""
    for package in PACKAGES:
        module = __import__(package)
        for name in module.__all__:
            yield f"from {package} import {name}"
        for file in sorted((ROOT / package).rglob("*.py")):
            module = file.relative_to(ROOT).with_suffix("")
            if module.name not in {"__init__", "__main__"}:
                yield f"import {'.'.join(module.parts)}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_name_and_module_can_be_imported_first(tmp_path):
    ended = python(RUN_EACH_ALONE, tmp_path, given="\n".join(names()))
    assert ended.stdout == "all done\n", ended.stdout + ended.stderr[-2000:]


@pytest.mark.parametrize("kind", ["file", "folder"])
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
        from keras_archs.tflite_export.classifier import Classifier
        from keras_archs.training.config import TrainConfig

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
        from keras_archs.exporting import export
        target, conversion = export("run", "int8", test_images=64, min_agreement=0)
        assert isinstance(conversion, keras_archs.tflite_export.Conversion)
        assert Classifier(target).classes == 10
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_one_copy_where_nothing_hides_the_packages(tmp_path):
    ended = python(
        """
        import sys
        import keras_archs.tflite_export.metadata, tflite_export.metadata
        import keras_archs, training, keras_archs.training.data
        assert keras_archs.training is training and training.__spec__.name == "training"
        assert sys.modules["keras_archs.training.data"] is sys.modules["training.data"]
        assert keras_archs.tflite_export.Metadata is tflite_export.Metadata
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_modules_run_as_scripts_by_either_name(tmp_path):
    """`python -m keras_archs.training.jax_workers`, as documented by its plain name."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "keras_archs.training.jax_workers", "--help"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "--config" in ended.stdout
