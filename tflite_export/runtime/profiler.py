"""Measures the time of each operator of a file by LiteRT's profiler.

LiteRT's Python package cannot call the profiler. It ships libLiteRt, whose C interface (litert/c of
google-ai-edge/LiteRT) can. This is the same runtime, and XNNPACK reports its operators to it. The
interface may change with any version, and a wrong call ends the process. So a separate process
calls it, which runs this file as a script, and only with versions that were tested.
"""

import ctypes
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

_VERSIONS = ("2.3.",)
# A row of the table that the profiler prints: kind, start, first time, mean time, share, cumulated
# share, kilobytes, calls, name.
_ROW = re.compile(r"\s*(\S.*?)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%\s+[\d.]+%\s+\S+\s+(\d+)\s+\[")
_TABLE = re.compile(r"Run Order =*\n(.*?)\n\s*\n", re.DOTALL)
_DELEGATED = "Delegate/"


@dataclass(frozen=True)
class OperatorTime:
    """An operator of the runtime. XNNPACK fuses and splits the operators of the file.

    Attributes:
        kind: XNNPACK's name, such as "Convolution (NHWC, F32) IGEMM", or the file's, such as
            "CONV_2D".
        delegated: whether XNNPACK computes it, or LiteRT's built-in kernels.
        calls: calls in one run; above 1 if XNNPACK computes several parts of the file, for
            operators at the same index in them.
        mean_ms: mean time of all these calls in milliseconds; each call is rounded down to whole
            microseconds.
    """

    kind: str
    delegated: bool
    calls: float
    mean_ms: float


@dataclass(frozen=True)
class Profile:
    """The operators of a file in the order in which they run. `print` shows them as a table.

    Attributes:
        operators: one entry for each operator.
        repeats: number of measured runs.
        warmup: number of runs before them.
        threads: threads of the runtime.
    """

    operators: tuple[OperatorTime, ...]
    repeats: int
    warmup: int
    threads: int

    @property
    def mean_ms(self) -> float:
        """The time of all operators in milliseconds."""
        return sum(operator.mean_ms for operator in self.operators)

    def by_kind(self) -> dict[str, float]:
        """Milliseconds of all operators of each kind, the longest first."""
        totals: dict[str, float] = {}
        for operator in self.operators:
            totals[operator.kind] = totals.get(operator.kind, 0.0) + operator.mean_ms
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        total = self.mean_ms or 1.0
        lines = [f"{ms:9.3f} ms {ms / total:6.1%}  {kind}" for kind, ms in self.by_kind().items()]
        calls = sum(operator.calls for operator in self.operators)
        outside = sum(operator.calls for operator in self.operators if not operator.delegated)
        return "\n".join(
            [
                *lines,
                f"{self.mean_ms:9.3f} ms in {calls:.0f} operators, {outside:.0f} of them"
                f" outside XNNPACK; mean of {self.repeats} runs after {self.warmup},"
                f" threads: {self.threads}",
            ]
        )


def profile(
    content: bytes, image: bytes, *, threads: int, repeats: int, warmup: int, timeout: float = 10
) -> Profile:
    """Profiles a file of batch 1 on an image, given as the bytes of its input.

    Args:
        timeout: seconds for a run, and for the start.

    Raises:
        RuntimeError: the profiler of the installed LiteRT is not supported, fails, or does not end.
    """
    installed = version("ai-edge-litert")
    if not installed.startswith(_VERSIONS):
        supported = " or ".join(f"{start}*" for start in _VERSIONS)
        raise RuntimeError(f"The profiler needs ai-edge-litert {supported}, not {installed}.")
    numbers = map(str, (len(image), threads, repeats, warmup))
    # -P: do not import from the folder of this file.
    try:
        process = subprocess.run(
            [sys.executable, "-P", __file__, *numbers],
            input=image + content,
            capture_output=True,
            check=False,
            timeout=timeout * (1 + warmup + repeats),
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"LiteRT's profiler did not end within {error.timeout:g} seconds."
        ) from error
    table = _TABLE.search(process.stdout.decode())
    rows = [] if table is None else list(filter(None, map(_ROW.match, table[1].splitlines())))
    if process.returncode or not rows:
        last = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"LiteRT's profiler failed, exit code {process.returncode}: {last}")
    operators = []
    for kind, milliseconds, count in (row.groups() for row in rows):
        calls = int(count) / repeats
        name, delegated = kind.removeprefix(_DELEGATED), kind.startswith(_DELEGATED)
        operators.append(OperatorTime(name, delegated, calls, calls * float(milliseconds)))
    return Profile(tuple(operators), repeats, warmup, threads)


def _run(image: bytes, content: bytes, threads: int, repeats: int, warmup: int) -> str:
    """The profiler's summary. Objects are freed when the process ends."""
    import ai_edge_litert  # noqa: PLC0415  # loads the library

    (path,) = Path(ai_edge_litert.__file__).parent.glob("libLiteRt.*")
    library = ctypes.CDLL(str(path))

    def call(name: str, *arguments: object) -> None:
        status = getattr(library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name}: status {status}")

    def create(name: str, *arguments: object) -> ctypes.c_void_p:
        """The pointer that a function writes to its last argument."""
        result = ctypes.c_void_p()
        call(name, *arguments, ctypes.byref(result))
        return result

    first = ctypes.c_size_t(0)
    environment = create("CreateEnvironment", 0, None)
    model = create("CreateModelFromBuffer", environment, content, ctypes.c_size_t(len(content)))
    options = create("CreateOptions")
    call("SetOptionsHardwareAccelerators", options, 1)  # the CPU
    keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
    settings = {
        b"runtime_options_string": b"enable_profiling = true",
        b"xnnpack": b"num_threads = %d" % threads,
    }
    for part, setting in settings.items():
        call("AddOpaqueOptions", options, create("CreateOpaqueOptions", part, setting, keep))
    compiled = create("CreateCompiledModel", environment, model, options)
    signature = create("GetModelSignature", model, first)

    def buffer(side: str) -> ctypes.c_void_p:
        tensor = create(f"GetSignature{side}TensorByIndex", signature, first)
        kind = ctypes.create_string_buffer(1024)  # a structure of under 100 bytes
        call("GetRankedTensorType", tensor, kind)
        needs = create(f"GetCompiledModel{side}BufferRequirements", compiled, first, first)
        return create("CreateManagedTensorBufferFromRequirements", environment, kind, needs)

    source, target = buffer("Input"), buffer("Output")
    memory = ctypes.c_void_p()
    call("LockTensorBuffer", source, ctypes.byref(memory), 1)  # to write
    ctypes.memmove(memory, image, len(image))
    call("UnlockTensorBuffer", source)
    one = ctypes.c_size_t(1)
    run = partial(
        call, "RunCompiledModel", compiled, first, one, ctypes.byref(source), one,
        ctypes.byref(target),
    )  # fmt: skip
    for _ in range(warmup):
        run()
    profiler = create("CompiledModelGetProfiler", compiled)
    call("StartProfiler", profiler)
    for _ in range(repeats):
        run()
    call("StopProfiler", profiler)
    summary = create("GetProfileSummary", profiler, compiled).value
    return ctypes.string_at(summary or 0).decode()


if __name__ == "__main__":
    length, *settings = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    print(_run(data[:length], data[length:], *settings))
