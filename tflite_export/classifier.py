"""Runs a TFLite file on images."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_archs.errors import InputError
from tflite_export.images import check_images


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
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    repeats: int
    warmup: int
    threads: int


class Classifier:
    """A TFLite image classifier of one input, [1, height, width, channels], and one output.

    Attributes:
        threads: threads that the interpreter uses.
        image_shape: (height, width, channels) of an image.
    """

    def __init__(self, source: bytes | str | Path, threads: int = 1) -> None:
        """Loads a TFLite file from its bytes or its path.

        Raises:
            InputError: the file is missing, damaged or no such classifier, or `threads` is no
                positive whole number.
        """
        if not isinstance(threads, int) or threads < 1:
            raise InputError(f"threads must be a whole number from 1 on, got {threads!r}.")
        if isinstance(source, bytes):
            name, content = f"{len(source)} bytes", source
        else:
            name, content = repr(str(source)), _read(Path(source))
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"source ({name}) is not a working TFLite file: {reason}") from error

        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shapes = [
            [tuple(map(int, tensor["shape"])) for tensor in side] for side in (inputs, outputs)
        ]
        match shapes:
            case [[(1, height, width, channels)], [(1, _)]]:
                self.image_shape = (height, width, channels)
            case _:
                raise InputError(
                    f"source ({name}) must take [1, height, width, channels] and give [1, classes],"
                    f" got {shapes[0]} and {shapes[1]}."
                )
        self.threads = threads
        self._input, self._output = _Tensor.of(inputs[0]), _Tensor.of(outputs[0])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The outputs, float32 [n, classes], for images, float32 [n, height, width, channels].

        Images are run one at a time; those for a quantized input are rounded to its steps and
        clipped to its range.

        Raises:
            InputError: `images` has another shape or type, or values that are not finite.
        """
        check_images("images", images, self.image_shape)
        return np.concatenate([self._run(image) for image in images])

    def latency(self, image: np.ndarray, *, repeats: int = 100, warmup: int = 10) -> Latency:
        """Times the interpreter on one image, float32 [height, width, channels].

        Raises:
            InputError: `image` is unfit, `repeats` is under 1 or `warmup` under 0.
        """
        check_images("image", np.asarray(image)[None], self.image_shape)
        if repeats < 1 or warmup < 0:
            raise InputError(
                f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}."
            )
        self._run(image)
        milliseconds = []
        for _ in range(warmup + repeats):
            start = time.perf_counter_ns()
            self._interpreter.invoke()
            milliseconds.append((time.perf_counter_ns() - start) / 1e6)
        p10, median, p90 = map(float, np.percentile(milliseconds[warmup:], [10, 50, 90]))
        return Latency(median, p10, p90, repeats, warmup, self.threads)

    def _run(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input.index, self._input.encode(image[None]))
        self._interpreter.invoke()
        return self._output.decode(self._interpreter.get_tensor(self._output.index))


@dataclass(frozen=True)
class _Tensor:
    """An input or output; if `scale` is set it stands for `scale * (integer - zero_point)`."""

    index: int
    dtype: Any
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Tensor":
        return cls(details["index"], details["dtype"], *details["quantization"])

    def encode(self, values: np.ndarray) -> np.ndarray:
        if not self.scale:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        steps = np.round(values / self.scale) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def decode(self, values: np.ndarray) -> np.ndarray:
        if not self.scale:
            return values.astype(np.float32)
        return np.float32(self.scale) * (values.astype(np.float32) - self.zero_point)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"source={str(path)!r} cannot be read: {error.strerror}.") from error
