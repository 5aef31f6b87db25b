"""Writes programs that call a TFLite file: Python, C++ and Kotlin."""

import json
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ..runtime.errors import input_error
from ..runtime.images import PICTURES
from ..runtime.metadata import LABELS, Metadata, read_metadata

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__, ""),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # programs, not HTML
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Snippets:
    """Programs that preprocess an image, run the file on it and print or return the result.

    They contain the sizes, the preprocessing and the quantization of the file. They need no
    TensorFlow and no Keras.

    Attributes:
        python: prints the best class of an image file. Needs the packages ai-edge-litert, numpy and
            pillow.
        cpp: a function from pixels to scores, for LiteRT's C++ interpreter. The headers are in
            `tflite/`; in the TensorFlow repository they are in `tensorflow/lite/`.
        kotlin: a class for Android. Needs `com.google.ai.edge.litert:litert`.
    """

    python: str
    cpp: str
    kotlin: str

    def __str__(self) -> str:
        languages = {"Python": self.python, "C++": self.cpp, "Kotlin": self.kotlin}
        return "\n".join(
            f"{language}:\n\n```{language.lower()}\n{program}```\n"
            for language, program in languages.items()
        )

    @classmethod
    def of(cls, content: bytes, name: str = "model.tflite") -> "Snippets":
        """Writes the programs for a TFLite file.

        Args:
            content: the bytes of the file, with metadata.
            name: the file name that the programs open.

        Raises:
            InputError: the file has no metadata or no signature. Its input does not have 1 or 3
                channels. Its input or output has another type than float32, int8 or uint8.
        """
        metadata = read_metadata(content)
        if metadata is None:
            raise input_error("content must have metadata, got a file without metadata.")
        height, width, channels = metadata.image_shape
        if channels not in PICTURES:
            raise input_error(f"content must take images of 1 or 3 channels, got {channels}.")
        interpreter = Interpreter(model_content=content)
        signatures = interpreter.get_signature_list()
        if not signatures:
            raise input_error("content must have a signature, got a file without a signature.")
        signature, names = next(iter(signatures.items()))
        (input_details,), (output_details,) = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        types = {details["dtype"] for details in (input_details, output_details)}
        if not types <= {np.float32, np.int8, np.uint8}:
            raise input_error(
                f"content must have an input and an output of float32, int8 or uint8, got {types}."
            )
        classes = int(output_details["shape"][-1])
        mean, scale = (np.broadcast_to(values, channels) for values in metadata.constants())
        values = {
            "file": json.dumps(name),
            "metadata": metadata,
            "labels": LABELS,
            "height": height,
            "width": width,
            "channels": channels,
            "classes": classes,
            "mean": mean,
            "scale": scale,
            "scores": _scores(metadata, classes),
            "signature": signature,
            "input": _Tensor.of(names["inputs"][0], input_details),
            "output": _Tensor.of(names["outputs"][0], output_details),
        }
        templates = (_TEMPLATES.get_template(f"classify.{end}.jinja") for end in ("py", "cc", "kt"))
        return cls(*(template.render(values) for template in templates))


@dataclass(frozen=True)
class _Tensor:
    """Name, type and quantization of the input or the output. A scale of 0 means none."""

    name: str
    dtype: str
    scale: float
    zero: int

    @classmethod
    def of(cls, name: str, details: dict[str, Any]) -> "_Tensor":
        return cls(name, np.dtype(details["dtype"]).name, *details["quantization"])

    @property
    def limits(self) -> tuple[int, int]:
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)


def _scores(metadata: Metadata, classes: int) -> str:
    """The name of what the file returns, such as "logits for a softmax"."""
    if metadata.probabilities:
        singular, plural = "probability", "probabilities"
    else:
        singular = "logit"
        plural = f"logits for a {metadata.activation}" if metadata.activation else "logits"
    return f"{singular} of the second class" if classes == 1 else plural
