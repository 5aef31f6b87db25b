"""The command `predict`: classifies images with an exported TFLite file.

It needs only LiteRT, NumPy and Pillow. The preprocessing and the class names are in the file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.errors import input_error
from ..runtime.images import read_image
from ..runtime.notes import without_notes
from .command_line import Parser


def predict(arguments: Sequence[str]) -> None:
    """Classifies images and prints the most probable classes of each image.

    Raises:
        ValueError: an argument is not allowed, or the TFLite file or an image cannot be read.
            Nothing is printed in this case.
    """
    options = _parse(arguments)
    with without_notes():
        # --help does not need LiteRT.
        from ..runtime.classifier import Classifier, probabilities  # noqa: PLC0415

        classifier = Classifier(options.model, options.threads)
    metadata = classifier.metadata
    if metadata is None:
        raise input_error(
            f"source={str(options.model)!r} has no metadata about its preprocessing. The file is"
            " damaged or was not written by `keras-archs export`."
        )
    names = metadata.class_names or [f"class {index}" for index in range(classifier.classes)]
    if len(names) != classifier.classes:
        raise input_error(
            f"source={str(options.model)!r} is damaged: it has {len(names)} class names for"
            f" {classifier.classes} classes."
        )
    images = [read_image(path, metadata.image_shape, metadata.crop) for path in options.images]
    # Images are converted one by one, because floats take four times the memory of pixels.
    scores = np.concatenate(
        [classifier.predict(metadata.preprocess(image[None])) for image in images]
    )
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
            raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
        return int(text)

    parser = Parser(
        "predict",
        "Classify images with a TFLite file of `keras-archs export`. This command needs only the"
        " packages ai-edge-litert, numpy and pillow.",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL.tflite", help="TFLite file of an export."
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="Image file.")
    parser.add_argument(
        "--top",
        type=positive,
        default=5,
        metavar="N",
        help="Classes to print for each image. Default: 5.",
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="CPU threads. Default: 1."
    )
    return parser.parse_args(arguments)
