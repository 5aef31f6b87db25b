"""`keras-archs predict`: names what is on pictures, by a TFLite file that says how.

It needs LiteRT, NumPy and Pillow, and none of what the rest of the command line needs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .command_line import Parser
from .errors import input_error
from .images import read_image
from .notes import without_notes


def predict(arguments: Sequence[str]) -> None:
    """Runs the command with its arguments and prints the best classes of each image.

    Raises:
        ValueError: an argument, the TFLite file or an image does not do; nothing is printed then.
    """
    options = _parse(arguments)
    with without_notes():
        # Not for --help.
        from .classifier import Classifier, probabilities  # noqa: PLC0415

        classifier = Classifier(options.model, options.threads)
    metadata = classifier.metadata
    if metadata is None:
        raise input_error(
            f"source={str(options.model)!r} does not say how its images are prepared: it is"
            " damaged, or no file of `keras-archs export`."
        )
    names = metadata.class_names or [f"class {index}" for index in range(classifier.classes)]
    if len(names) != classifier.classes:
        raise input_error(
            f"source={str(options.model)!r} is damaged: it has {len(names)} class names for"
            f" {classifier.classes} classes."
        )
    images = [read_image(path, metadata.image_shape, metadata.crop) for path in options.images]
    # One after the other, for as floats they take four times the memory.
    scores = np.concatenate([classifier.predict(metadata.preprocess(x[None])) for x in images])
    if not metadata.probabilities:
        scores = probabilities(scores, independent=metadata.activation == "sigmoid")
    if classifier.scores == 1:
        scores = np.hstack([1 - scores, scores])
    for path, row in zip(options.images, scores, strict=True):
        print(path)
        for index in np.argsort(-row, kind="stable")[: options.top]:
            print(f"{row[index]:9.2%}  {names[index]}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
        return int(text)

    parser = Parser(
        "predict",
        "Name what is on pictures, by a TFLite file of `keras-archs export`. It needs nothing but"
        " the packages ai-edge-litert, numpy and pillow.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--top", type=positive, default=5, help="Classes to print (5).")
    parser.add_argument("--threads", type=positive, default=1, help="Threads to use (1).")
    return parser.parse_args(arguments)
