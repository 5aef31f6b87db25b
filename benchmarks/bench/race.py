"""Measures candidates in turns, each in its own process."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.worker import Spec

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """The measurement of a candidate.

    Attributes:
        seconds: time of a step in each round.
        megabytes: peak memory of the process.
    """

    seconds: list[float]
    megabytes: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Candidate:
    """The process of a candidate, see `worker`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench.worker", spec.dumps()],
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
        """Reads a line that the process prints.

        Raises:
            RuntimeError: the process has ended without printing a line.
        """
        line = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.spec} has ended early: run it alone to see the error.")
        return line

    def run(self, steps: int) -> float:
        """Runs `steps` steps. Returns the seconds per step."""
        assert self._process.stdin
        print(steps, file=self._process.stdin, flush=True)
        return float(self.read()) / steps

    def finish(self) -> float:
        """Ends the process. Returns its peak memory in megabytes."""
        assert self._process.stdin
        self._process.stdin.close()
        return float(self.read())


def race(specs: Sequence[Spec], rounds: int, steps: int = 1) -> dict[Spec, Result]:
    """Runs all candidates in turns, `steps` steps at a time, `rounds` times.

    A temporary load on the machine slows all candidates of a round equally, so the ratios within a
    round remain valid.
    """
    candidates: list[Candidate] = []
    try:
        # One after another: compiling all at once would take more memory than running them.
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
    """Calls functions of this process in turns, and returns their values after a warm-up round."""
    results: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            results[name].append(function())
    return {name: values[1:] for name, values in results.items()}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of all rounds."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))
