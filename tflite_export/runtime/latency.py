"""Measures the latency of a file, and the peak of the machine."""

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
    """The time for one image, without preprocessing.

    Attributes:
        median_ms: median in milliseconds.
        p10_ms: one run in ten took at most this time, in milliseconds.
        p90_ms: nine runs in ten took at most this time, in milliseconds.
        repeats: number of timed runs.
        warmup: number of runs before them, which were not timed.
        threads: threads of the interpreter.
        delegate: "XNNPACK" if it computed at least a part of the file, else "built-in kernels".
        multiply_adds: multiply-adds of the file for one image, see `count_multiply_adds`.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    repeats: int
    warmup: int
    threads: int
    delegate: str
    multiply_adds: int


def measure(
    run: Callable[[], None],
    content: bytes,
    *,
    repeats: int,
    warmup: int,
    threads: int,
    delegate: str,
) -> Latency:
    """Times each call of `run`, one inference of the file.

    Raises:
        InputError: `repeats` is below 1 or `warmup` below 0.
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
    return Latency(median, p10, p90, repeats, warmup, threads, delegate, work)


def count_multiply_adds(content: bytes) -> int:
    """Counts the multiply-adds of convolutions and matrix products in a file, for one image.

    Biases, activations, pooling and elementwise operators do not count, as in the papers' tables.
    """
    kinds = schema.BuiltinOperator
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)

    def shape(tensor: int) -> list[int]:
        return [int(size) for size in graph.Tensors(tensor).ShapeAsNumpy()]

    total = 0
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Old files have only the second field, whose largest value is 127.
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == kinds.CONV_2D:  # filter [out, height, width, in / groups]
            products = math.prod(shape(operator.Inputs(1))[1:])
        elif kind == kinds.DEPTHWISE_CONV_2D:  # filter [1, height, width, out]
            products = math.prod(shape(operator.Inputs(1))[1:3])
        elif kind == kinds.FULLY_CONNECTED:  # weights [out, in]
            products = shape(operator.Inputs(1))[-1]
        elif kind == kinds.BATCH_MATMUL:
            options = schema.BatchMatMulOptions()
            options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
            products = shape(operator.Inputs(0))[-2 if options.AdjX() else -1]
        else:
            continue
        total += math.prod(shape(operator.Outputs(0))) * products
    return total


# The best of many short runs: other work of the machine only makes a run slower.
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
# NumPy's matrix library is one of these. It reads its variable once, when it is loaded.
_LIMITS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def measure_peak(threads: int, timeout: float = 60) -> float | None:
    """Measures the machine's float32 multiply-adds per second by NumPy's matrix product.

    It takes half a second. The result is None if the measurement fails or takes more
    than `timeout` seconds.
    """
    try:
        # -P: do not import from the working directory.
        process = subprocess.run(
            [sys.executable, "-P", "-c", _PRODUCT],
            env={**os.environ, **dict.fromkeys(_LIMITS, str(threads))},
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout,
        )
        return float(process.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
