"""How long a file takes, and how much of the machine it uses."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .errors import input_error


@dataclass(frozen=True)
class Latency:
    """Time for one image, without its preprocessing.

    Attributes:
        median_ms: in milliseconds, as are the next two.
        p10_ms: one run in ten was at most this long.
        p90_ms: nine runs in ten were at most this long.
        repeats: runs that were timed.
        warmup: runs before them that were not.
        threads: threads of the interpreter.
        delegate: what computed: "XNNPACK", where it took over at least a part of the file, or
            "built-in kernels" alone.
        multiply_adds: of the file for an image, see `count_multiply_adds`.
        peak: multiply-adds a second, see `measure_peak`, measured right after the runs; None where
            that failed.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    repeats: int
    warmup: int
    threads: int
    delegate: str
    multiply_adds: int
    peak: float | None

    @property
    def share_of_peak(self) -> float | None:
        """Multiply-adds a second over the peak; int8 may come out above 1, for the peak is float32.

        Small networks stay far below: their time goes into reading weights and starting operators.
        None where the peak is.
        """
        if self.peak is None:
            return None
        return self.multiply_adds / (self.median_ms / 1e3) / self.peak


def measure(
    run: Callable[[], None],
    content: bytes,
    *,
    repeats: int,
    warmup: int,
    threads: int,
    delegate: str,
) -> Latency:
    """Times `run`, one inference of the file, call by call.

    Raises:
        InputError: `repeats` is under 1 or `warmup` under 0.
    """
    if repeats < 1 or warmup < 0:
        raise input_error(
            f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}."
        )
    milliseconds = []
    for _ in range(warmup + repeats):
        start = time.perf_counter_ns()
        run()
        milliseconds.append((time.perf_counter_ns() - start) / 1e6)
    p10, median, p90 = map(float, np.percentile(milliseconds[warmup:], [10, 50, 90]))
    work = count_multiply_adds(content)
    peak = measure_peak(threads)
    return Latency(median, p10, p90, repeats, warmup, threads, delegate, work, peak)


def count_multiply_adds(content: bytes) -> int:
    """Multiply-adds of a file for one image: of convolutions and products of matrices.

    Biases, activations, pooling and elementwise operators count nothing, as in the papers' tables.
    """
    kinds = schema.BuiltinOperator
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)

    def shape(tensor: int) -> list[int]:
        return [int(size) for size in graph.Tensors(tensor).ShapeAsNumpy()]

    total = 0
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Old files have the second field alone, which ends at 127.
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == kinds.CONV_2D:  # filter [out, height, width, in / groups]
            each = math.prod(shape(operator.Inputs(1))[1:])
        elif kind == kinds.DEPTHWISE_CONV_2D:  # filter [1, height, width, out]
            each = math.prod(shape(operator.Inputs(1))[1:3])
        elif kind == kinds.FULLY_CONNECTED:  # weights [out, in]
            each = shape(operator.Inputs(1))[-1]
        elif kind == kinds.BATCH_MATMUL:
            options = schema.BatchMatMulOptions()
            options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
            each = shape(operator.Inputs(0))[-2 if options.AdjX() else -1]
        else:
            continue
        total += math.prod(shape(operator.Outputs(0))) * each
    return total


_PATIENCE = 60
"""Seconds for the peak; the slowest machines take a few."""
# Short ones, and the best of many: the machine's other work can only make one slower.
_PRODUCT = """
import time, numpy
a = numpy.ones((512, 512), numpy.float32)
seconds = []
for _ in range(100):
    start = time.perf_counter()
    a @ a
    seconds.append(time.perf_counter() - start)
print(512**3 / min(seconds))
"""
# NumPy's library for it is one of these; each reads its variable once, when it is loaded.
_LIMITS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def measure_peak(threads: int) -> float | None:
    """Float32 multiply-adds a second that this machine reaches: NumPy's product of two matrices.

    It takes half a second. Where it fails, or takes a minute, the result is None: nothing else of a
    file depends on it.
    """
    try:
        # -P: the working directory is no place to import from.
        found = subprocess.run(
            [sys.executable, "-P", "-c", _PRODUCT],
            env={**os.environ, **dict.fromkeys(_LIMITS, str(threads))},
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        )
        return float(found.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
