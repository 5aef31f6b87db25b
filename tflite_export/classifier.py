"""Runs a TFLite file on images."""

import os
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from .errors import input_error
from .images import as_batch
from .latency import Latency, measure
from .metadata import Metadata, read_metadata
from .notes import without_notes_in_notebook
from .profiler import Profile, profile

# More images at once than this make a file of open batch no faster, and take memory.
_BATCH = 32


class Classifier:
    """A TFLite image classifier of one input, [1, height, width, channels], and one output.

    The batch may be open as well.

    Attributes:
        threads: threads that the interpreter uses.
        image_shape: (height, width, channels) of an image.
        scores: length of the output.
        classes: how many it tells apart: as many, and two by a single score, which is high for the
            second.
        open_batch: whether it takes any number of images at once.
        delegate: "XNNPACK", where it computes at least a part, or "built-in kernels".
    """

    def __init__(self, source: bytes | str | Path, threads: int = 1) -> None:
        """Loads a TFLite file from its bytes or its path.

        Raises:
            InputError: the file is missing, damaged or no such classifier, or `threads` is no
                positive whole number.
        """
        check_threads(threads)
        if isinstance(source, bytes):
            name, self._content = f"{len(source)} bytes", source
        else:
            name, self._content = repr(str(source)), _read(source)
        try:
            with without_notes_in_notebook():
                self._interpreter = Interpreter(
                    model_content=self._content, num_threads=int(threads)
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise input_error(f"source ({name}) is not a working TFLite file: {reason}") from error

        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shapes = [
            [tuple(map(int, tensor["shape"])) for tensor in side] for side in (inputs, outputs)
        ]
        match shapes:
            case [[(1, height, width, channels)], [(1, scores)]]:
                self.image_shape = height, width, channels
                self.scores, self.classes = scores, max(2, scores)
            case _:
                raise input_error(
                    f"source ({name}) must take [1, height, width, channels] and give [1, scores],"
                    f" got {shapes[0]} and {shapes[1]}."
                )
        self.threads = int(threads)
        self.delegate = _delegate(self._interpreter)
        self._input, self._output = _Tensor.of(inputs[0]), _Tensor.of(outputs[0])
        self.open_batch = bool(inputs[0]["shape_signature"][0] == -1)
        self._batch = 1

    @property
    def metadata(self) -> Metadata | None:
        """What the file says of itself; None if it has no metadata.

        Raises:
            InputError: the metadata are damaged, or of a later version of this package.
        """
        return read_metadata(self._content)

    def predict(self, images: Any) -> np.ndarray:
        """The outputs, float32 [n, scores], for images.

        Images are run one at a time, or 32 where the batch is open; those for a quantized input are
        rounded to its steps and clipped to its range.

        Args:
            images: floats [n, height, width, channels], preprocessed as in training, in an array, a
                tensor or a list; or one image without the first axis. Pixels, uint8, are
                preprocessed here if the file says how, see `metadata`.

        Raises:
            InputError: `images` has another shape or type, or values that are not finite.
        """
        images = self._images("images", images)
        step = _BATCH if self.open_batch else 1
        return np.concatenate(
            [self._run(images[i : i + step]) for i in range(0, len(images), step)]
        )

    def latency(self, image: Any, *, repeats: int = 100, warmup: int = 10) -> Latency:
        """Times the interpreter on one image, [height, width, channels], see `predict`.

        Raises:
            InputError: `image` is unfit, `repeats` is under 1 or `warmup` under 0.
        """
        self._run(self._image(image))
        return measure(
            self._interpreter.invoke,
            self._content,
            repeats=repeats,
            warmup=warmup,
            threads=self.threads,
            delegate=self.delegate,
        )

    def profile(self, image: Any, *, repeats: int = 50, warmup: int = 10) -> Profile:
        """Times each operator on one image, [height, width, channels], see `predict`.

        Raises:
            InputError: `image` is unfit, `repeats` is under 1, `warmup` under 0, or the batch is
                open.
            RuntimeError: the installed LiteRT's profiler is not known here, or fails.
        """
        image = self._image(image)
        if self.open_batch:
            raise input_error("source must have a batch of 1 to be profiled, its batch is open.")
        return profile(
            self._content,
            self._input.encode(image).tobytes(),
            threads=self.threads,
            repeats=repeats,
            warmup=warmup,
        )

    def _images(self, name: str, images: Any) -> np.ndarray:
        def preprocess(pixels: np.ndarray) -> np.ndarray:
            return facts.preprocess(pixels) if (facts := self.metadata) else pixels

        return as_batch(name, images, self.image_shape, preprocess)

    def _image(self, image: Any) -> np.ndarray:
        """One image as a batch."""
        batch = self._images("image", image)
        if len(batch) > 1:
            raise input_error(f"image must be one image, got {len(batch)}.")
        return batch

    def _run(self, images: np.ndarray) -> np.ndarray:
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._input.index, images.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._input.index, self._input.encode(images))
        self._interpreter.invoke()
        return self._output.decode(self._interpreter.get_tensor(self._output.index))


def check_threads(threads: int) -> None:
    if isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1:
        raise input_error(f"threads must be a whole number from 1 on, got {threads!r}.")


def best_class(scores: np.ndarray, probabilities: bool) -> np.ndarray:
    """The class that each row of scores, [n, scores], names.

    Args:
        scores: of one network; a single one is of the second of two classes.
        probabilities: whether they are that, so that 1/2 is between two classes; else it is 0.
    """
    if scores.shape[1] > 1:
        return scores.argmax(axis=1)
    return (scores[:, 0] > (0.5 if probabilities else 0)).astype(int)


def probabilities(logits: np.ndarray, independent: bool = False) -> np.ndarray:
    """Those of logits, [n, scores].

    Args:
        logits: of one network; a single one is of the second of two classes.
        independent: whether each score has a sigmoid of its own instead of a softmax of all.
    """
    if independent or logits.shape[1] == 1:
        return 0.5 + 0.5 * np.tanh(0.5 * logits)  # the sigmoid, without an overflow
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Tensor:
    """An input or output; if it is of integers it stands for `scale * (integer - zero_point)`."""

    index: int
    dtype: Any
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Tensor":
        scale, zero_point = details["quantization"]
        # Integers without a scale are pixels, for a network that begins with their preprocessing.
        return cls(details["index"], details["dtype"], scale or 1.0, zero_point)

    def encode(self, values: np.ndarray) -> np.ndarray:
        if not np.issubdtype(self.dtype, np.integer):
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        steps = np.round(values / self.scale) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def decode(self, values: np.ndarray) -> np.ndarray:
        if not np.issubdtype(self.dtype, np.integer):
            return values.astype(np.float32)
        return np.float32(self.scale) * (values.astype(np.float32) - self.zero_point)


def _delegate(interpreter: Interpreter) -> str:
    # No public call says which operators a delegate has taken over.
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    return "XNNPACK" if "DELEGATE" in names else "built-in kernels"


def _read(path: str | Path) -> bytes:
    try:
        return Path(os.path.expanduser(path)).read_bytes()  # noqa: PTH111
    except OSError as error:
        raise input_error(f"source={str(path)!r} cannot be read: {error.strerror}.") from error
