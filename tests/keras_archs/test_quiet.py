"""What the command line keeps off its output, and what it must not."""

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


def test_a_closed_stderr_is_no_error():
    program = "os.close(2)\nwith quiet() as past: print('told', file=past)\nprint('done')"
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "done\n")


def run(program):
    program = f"import os\nfrom keras_archs.quiet import quiet\n{program}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)
