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

# Larger batches do not make a file with an open batch faster, but take memory.
_BATCH = 32


class Classifier:
    """A TFLite image classifier with one input, [1, height, width, channels], and one output.

    The batch may also be open (any number of images).

    Attributes:
        threads: threads that the interpreter uses.
        image_shape: (height, width, channels) of an image.
        scores: length of the output.
        classes: number of classes: equal to `scores`, but two for a single score, which is high
            for the second class.
        open_batch: whether the file takes any number of images at once.
        delegate: "XNNPACK" if it computes at least a part of the file, else "built-in kernels".
    """

    def __init__(self, source: bytes | str | Path, threads: int = 1) -> None:
        """Loads a TFLite file from its bytes or its path.

        Raises:
            InputError: the file is missing or damaged, or is not such a classifier; or `threads`
                is not a positive integer.
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
        self.delegate = "XNNPACK" if delegated(self._interpreter) else "built-in kernels"
        self._input, self._output = _Tensor.of(inputs[0]), _Tensor.of(outputs[0])
        self.open_batch = bool(inputs[0]["shape_signature"][0] == -1)
        self._batch = 1

    @property
    def metadata(self) -> Metadata | None:
        """The metadata of the file; None if it has none.

        Raises:
            InputError: the metadata are damaged, or were written by a later version.
        """
        return read_metadata(self._content)

    def predict(self, images: Any) -> np.ndarray:
        """Computes the scores of images, float32 [n, scores].

        Images are run one at a time, or 32 at a time if the batch is open. For a quantized input
        they are rounded to its levels and clipped to its range.

        Args:
            images: floats [n, height, width, channels], preprocessed as in training, in an array, a
                tensor or a list; or one image without the first axis. uint8 pixels are preprocessed
                if the file has metadata, see `metadata`.

        Raises:
            InputError: `images` has another shape or type, or values that are not finite.
        """
        images = self._images("images", images)
        batch = _BATCH if self.open_batch else 1
        return np.concatenate(
            [self._run(images[i : i + batch]) for i in range(0, len(images), batch)]
        )

    def latency(self, image: Any, *, repeats: int = 100, warmup: int = 10) -> Latency:
        """Times the interpreter on one image, [height, width, channels], see `predict`.

        Raises:
            InputError: `image` is not an image of the network, `repeats` is below 1, or `warmup` is
                below 0.
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
            InputError: `image` is not an image of the network, `repeats` is below 1, `warmup` is
                below 0, or the batch is open.
            RuntimeError: the profiler of the installed LiteRT is not supported, or fails.
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
    """Raises an InputError unless `threads` is a positive integer."""
    if isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1:
        raise input_error(f"threads must be a positive integer, got {threads!r}.")


def best_class(scores: np.ndarray, probabilities: bool) -> np.ndarray:
    """The predicted class of each row of scores, [n, scores].

    Args:
        scores: scores of a network; a single score is that of the second of two classes.
        probabilities: whether the scores are probabilities, with the threshold 1/2 between two
            classes; logits have the threshold 0.
    """
    if scores.shape[1] > 1:
        return scores.argmax(axis=1)
    return (scores[:, 0] > (0.5 if probabilities else 0)).astype(int)


def probabilities(logits: np.ndarray, independent: bool = False) -> np.ndarray:
    """The probabilities of logits, [n, scores].

    Args:
        logits: logits of a network; a single logit is that of the second of two classes.
        independent: whether each score has a sigmoid, in place of a softmax over all scores.
    """
    if independent or logits.shape[1] == 1:
        return 0.5 + 0.5 * np.tanh(0.5 * logits)  # the sigmoid, without an overflow
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Tensor:
    """An input or output; integers represent `scale * (integer - zero_point)`."""

    index: int
    dtype: Any
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Tensor":
        scale, zero_point = details["quantization"]
        # Integers without a scale are pixels, which the network preprocesses itself.
        return cls(details["index"], details["dtype"], scale or 1.0, zero_point)

    def encode(self, values: np.ndarray) -> np.ndarray:
        if not np.issubdtype(self.dtype, np.integer):
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        levels = np.round(values / self.scale) + self.zero_point
        return np.clip(levels, limits.min, limits.max).astype(self.dtype)

    def decode(self, values: np.ndarray) -> np.ndarray:
        if not np.issubdtype(self.dtype, np.integer):
            return values.astype(np.float32)
        return np.float32(self.scale) * (values.astype(np.float32) - self.zero_point)


def delegated(interpreter: Interpreter) -> list[dict[str, Any]]:
    """The parts of a file that a delegate computes, each with its `inputs` and `outputs`."""
    # Private: LiteRT has no public call for it.
    nodes = interpreter._get_ops_details()
    return [node for node in nodes if node["op_name"] == "DELEGATE"]


def _read(path: str | Path) -> bytes:
    try:
        return Path(os.path.expanduser(path)).read_bytes()  # noqa: PTH111
    except OSError as error:
        raise input_error(f"source={str(path)!r} cannot be read: {error.strerror}.") from error
