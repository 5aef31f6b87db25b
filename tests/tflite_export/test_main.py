"""The entry point of the command line: what works without TensorFlow, exit codes and errors."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

import keras_archs
from keras_archs import errors
from keras_archs.errors import InputError
from tests.tflite_export.test_predict import ENVIRONMENT, WITHOUT
from tflite_export.cli import app as cli
from tflite_export.cli.command_line import DEBUG, did_you_mean, finish
from tflite_export.cli.main import COMMANDS

NO_TENSORFLOW = (
    "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras']));"
    "from tflite_export.cli.main import main; main()"
)


def process(program, *arguments, columns=80, **options):
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**ENVIRONMENT, "COLUMNS": str(columns)},
        stderr=subprocess.PIPE,
        text=True,
        **{"stdout": subprocess.PIPE} | options,
    )


def done(program, *arguments, **options):
    with process(program, *arguments, **options) as running:
        out, err = running.communicate(timeout=60)
    return running.returncode, out, err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            "--help",
            0,
            ["predict", "train", "Only the commands predict and models", "pip install keras-archs"],
        ),
        ("", 0, ["predict", "train"]),
        ("train --help", 0, ["train", COMMANDS["train"], "pip install keras-archs"]),
        ("data prepare --help", 0, ["data", "pip install keras-archs"]),
        ("recipes --help", 0, ["recipes", "pip install keras-archs"]),
        ("models --help", 0, ["PATTERN"]),
        ("models resnet-1*d", 0, ["resnet18d\n", "resnet101d\n", "resnet152d\n"]),
        ("--version", 0, [f"keras-archs {keras_archs.__version__}"]),
        ("train", 2, ["train cannot run", "pip install keras-archs"]),
        ("export run", 2, ["export cannot run", "pip install keras-archs"]),
        ("recipes", 2, ["recipes cannot run", "pip install keras-archs"]),
        ("trian", 2, ["'trian'", "Did you mean 'train'", "keras-archs --help"]),
        (
            "--versoin",
            2,
            ["no option '--versoin'", "Did you mean '--version'", "keras-archs --help"],
        ),
        ("models nonet", 2, ["'nonet'"]),
        ("models rsnet50", 2, ["'rsnet50'", "'resnet50'"]),
        ("models resnet", 2, ["'resnet'", "Did you mean '*resnet*'?"]),
    ],
)
def test_where_only_litert_numpy_and_pillow_are_installed(arguments, code, words):
    found, out, err = done(WITHOUT, *arguments.split())
    said, silent = (err, out) if code else (out, err)
    assert (found, silent) == (code, "")
    assert [word for word in words if word not in said] == []
    assert max(map(len, out.splitlines()), default=0) <= 80
    if code:
        assert said.startswith("Error: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("pattern", ["*", "resnet*", "MobileNet_V2", "efficientnet-b[0-2]", "v?g*"])
def test_models_are_those_of_the_registry(pattern):
    code, out, _ = done(NO_TENSORFLOW, "models", pattern)
    expected = keras_archs.list_models(pattern.replace("_", "").replace("t-b", "tb"))
    assert (code, out.split()) == (0, expected)


@pytest.mark.parametrize("name", ["trian", "EXPORT", "nothing like it", "pre"])
def test_suggestions_are_those_of_the_library(name):
    """The library's function needs Keras, so the command line has a copy."""
    assert did_you_mean(name, COMMANDS) == errors.did_you_mean(name, COMMANDS)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_recipes_have_whole_names(columns):
    code, out, _ = done(NO_TENSORFLOW, "recipes", columns=columns)
    assert code == 0
    files = (keras_archs.siblings._ROOT / "training" / "settings" / "recipes").glob("*.yaml")
    names = re.findall(r"^(\S+) \(version \d\)$", out, re.MULTILINE)
    assert sorted(names) == sorted(file.stem for file in files)
    assert max(map(len, out.splitlines())) <= columns
    _, text, _ = done(NO_TENSORFLOW, "recipes", "finetune")
    assert text.startswith("name: finetune\n")


def test_its_list_is_that_of_the_commands():
    group = typer.main.get_command(cli.app)
    helps = {name: command.help for name, command in group.commands.items()}
    listed = {name: text for name, text in COMMANDS.items() if name in helps}
    assert {name: text.partition("\n")[0] for name, text in helps.items()} == listed
    assert {*COMMANDS} - {*helps} == {"predict", "models", "recipes"}


class AskedForMoreError(Exception):
    exit_code = 7
    headline = "Stopped"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("alpha must be positive."), 2, "Error: alpha must be positive."),
        (AskedForMoreError("at step 3."), 7, "Stopped: at step 3."),
        (PermissionError(13, "Permission denied", "a/b"), 2, "Error: 'a/b': Permission denied."),
        (OSError("the network is down"), 2, "Error: the network is down."),
        (ModuleNotFoundError("No module named 'x'"), 2, "Error: No module named 'x'. pip install"),
        (KeyError("weights"), 1, "Error: unexpected KeyError: 'weights'. KERAS_ARCHS_DEBUG=1"),
        (ValueError("a\n" * 5000), 1, "Error: unexpected ValueError: a a a"),
        (KeyboardInterrupt(), 130, None),
        (BrokenPipeError(32, "Broken pipe"), 1, None),
        (SystemExit(0), 0, None),
    ],
)
@pytest.mark.parametrize("debug", ["", "0", "1"])
def test_an_error_ends_in_one_line_and_has_its_traceback_on_demand(
    monkeypatch, capsys, error, code, line, debug
):
    def command():
        raise error

    monkeypatch.setenv(DEBUG, debug)
    with pytest.raises(SystemExit) as end:
        finish(command)
    *traceback, last = capsys.readouterr().err.splitlines() or [""]
    assert end.value.code == code
    assert last.startswith(line or "")
    assert len(last) < 600
    assert (traceback[:1] == ["Traceback (most recent call last):"]) == (
        debug == "1" and bool(line)
    )
    assert debug == "1" or traceback == []


@pytest.mark.parametrize("arguments", [["models"], ["--help"], ["recipes", "fast"]])
def test_a_reader_that_has_enough_is_no_error(arguments):
    with process(NO_TENSORFLOW, *arguments) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_ends_in_one_line():
    with FULL.open("w") as full:
        code, _, err = done(NO_TENSORFLOW, "models", stdout=full)
    assert code == 2
    assert re.fullmatch(r"Error: .*No space left on device\.\n", err)


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on Unix")
def test_ctrl_c_while_tensorflow_is_imported():
    program = (
        "import sys; from tflite_export.cli.main import main;"
        "sys.argv[0] = 'keras-archs'; print('ready', flush=True); main()"
    )
    with process(program, "train") as running:
        assert running.stdout.readline() == "ready\n"
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "")


@pytest.mark.full
def test_python_dash_m():
    command = [sys.executable, "-m", "keras_archs", "report", "nowhere"]
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("Error: 'nowhere' is not a run folder")
    assert found.stderr.count("\n") == 1
