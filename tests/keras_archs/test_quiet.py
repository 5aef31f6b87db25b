"""What the command line keeps off its output, and what it must not."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("os.write(2, b'note'); print('told', file=past)", "told"),
        ("os.write(2, b'note'); os.abort()", "Aborted"),
    ],
)
def test_only_notes_are_kept_out(ending, said):
    done = run(f"with quiet() as past: {ending}")
    assert said in done.stderr
    assert "note" not in done.stderr


@pytest.mark.full
def test_a_closed_stderr_is_no_error():
    program = "os.close(2)\nwith quiet() as past: print('told', file=past)\nprint('done')"
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.full
@pytest.mark.parametrize(
    ("before", "silent"),
    [
        ("sys.argv[0] = '/usr/bin/keras-archs'", True),
        pytest.param("sys.argv[0] = '-m'", True, marks=pytest.mark.slow),
        ("sys.modules['ipykernel'] = sys", True),
        *(
            pytest.param(
                f"sys.argv[0] = '-m'; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '{level}'",
                level == 3,
                marks=pytest.mark.slow,
            )
            for level in (3, 0)
        ),
        ("pass", False),
    ],
)
def test_what_the_import_of_tensorflow_says(before, silent):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    program = f"import os, sys; {before}; import keras_archs"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert (done.stderr == "") == silent


@pytest.mark.full
def test_the_results_of_a_cell_hold_no_notes():
    cell = "import sys, warnings; sys.modules['ipykernel'] = sys\n"
    cell += "from keras_archs.display.quiet import quiet_in_notebook\n"
    cell += "with quiet_in_notebook(): os.write(2, b'note')\n"
    assert "note" not in run(f"{cell}print('done', file=sys.stderr)").stderr
    assert "note" in run(cell.replace("'ipykernel'", "'ipython'")).stderr


def run(program):
    program = f"import os\nfrom keras_archs.display.quiet import quiet\n{program}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)
