"""Candidates side by side: each in a process of its own, measured in turns."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from docs.bench.worker import Spec

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """What was measured of one candidate.

    Attributes:
        seconds: of one step, round by round.
        megabytes: the peak of the process' memory.
    """

    seconds: list[float]
    megabytes: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Candidate:
    """A process that holds one candidate, see `worker`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._process = subprocess.Popen(
            [sys.executable, "-m", "docs.bench.worker", spec.dumps()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def read(self) -> str:
        """A line that the process prints.

        Raises:
            RuntimeError: the process has ended without it.
        """
        line = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.spec} ended early: run it alone to see why.")
        return line

    def run(self, steps: int) -> float:
        """Seconds for one of `steps` steps."""
        assert self._process.stdin
        print(steps, file=self._process.stdin, flush=True)
        return float(self.read()) / steps

    def finish(self) -> float:
        """Ends the process; the peak of its memory in megabytes."""
        assert self._process.stdin
        self._process.stdin.close()
        return float(self.read())


def race(specs: Sequence[Spec], rounds: int, steps: int = 1) -> dict[Spec, Result]:
    """Runs all candidates in turns, `steps` steps at a time, `rounds` times.

    A machine that is busy for a while slows the candidates of a round alike, so that ratios within
    a round hold.
    """
    candidates: list[Candidate] = []
    try:
        # One after the other: to compile all of them at once takes more memory than to run them.
        for spec in specs:
            candidates.append(Candidate(spec))
            candidates[-1].read()
        seconds: dict[Spec, list[float]] = {spec: [] for spec in specs}
        for _ in range(rounds):
            for candidate in candidates:
                seconds[candidate.spec].append(candidate.run(steps))
        return {
            candidate.spec: Result(seconds[candidate.spec], candidate.finish())
            for candidate in candidates
        }
    finally:
        for candidate in candidates:
            candidate.stop()


def interleaved(functions: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What functions of this process return, in turns, after a round that is not counted."""
    measured: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            measured[name].append(function())
    return {name: values[1:] for name, values in measured.items()}


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of one value divided by the other."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
