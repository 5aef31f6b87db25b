"""TensorFlow's converter, made ready for a Keras model, and its refusals in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import keras
import tensorflow as tf

from keras_archs.errors import InputError

_NAMED = 3
"""Operations that an error names."""


def make_converter(
    model: keras.Model, shape: tuple[int | None, int, int, int]
) -> tf.lite.TFLiteConverter:
    """A converter of `model` for a batch of images.

    `from_keras_model` keeps the batch open. Networks that reshape then compute the new shape anew
    for each image, which cuts the graph in pieces for XNNPACK, and each file is a little larger.

    Raises:
        InputError: the model has a loop.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": model(image, training=False)}

    function = tf.function(
        serve, input_signature=[tf.TensorSpec(shape, tf.float32, "image")], autograph=False
    )
    # Weights become constants, and batch norms part of the convolutions, only if the converter can
    # reach them from a module; Keras' variables hide TensorFlow's from it.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    _check_no_loop(concrete.graph)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)


def _check_no_loop(graph: tf.Graph) -> None:
    # A file of it has several graphs, which neither reports nor metadata are made for. TensorFlow
    # ends the process where it is to measure ranges inside.
    definition = graph.as_graph_def()
    inner = (function.node_def for function in definition.library.function)
    for node in chain(definition.node, *inner):
        if node.op in {"While", "StatelessWhile"}:
            raise InputError(
                f"model has a loop, {node.name!r}, which files of one graph cannot hold. Leave it"
                " out, or unroll it: recurrent layers have unroll=True for that."
            )


@contextmanager
def built_in_alone() -> Iterator[None]:
    """Rewords what is said of a model that does not convert; the whole of it is the error's cause.

    Operations for which TFLite has no built-in operator are named with their types, if the
    converter does so.

    Raises:
        InputError: the model cannot be called, or not be converted.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the converter's own class is not public
        raise InputError(_refusal(str(error))) from error


def _refusal(text: str) -> str:
    without = re.findall(r"^\s*tf\.(\w+\(.*?\)) ->", text.partition("Details:")[2], re.MULTILINE)
    if without := without or re.findall(r"(?:TF Select|Custom) ops: (.+)", text):
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        return (
            "model has operations that TFLite has no built-in operator for:"
            f" {', '.join(without[:_NAMED])}{more}. Use layers without them."
        )
    # Keras puts colours and its own words around what a layer says, MLIR places before it.
    lines = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    lines = [x.strip() for x in lines if x.strip() and not x.startswith("Exception encountered")]
    errors = [line.rpartition("error: ")[2] for line in lines if "error: " in line]
    return f"model cannot be converted: {[*errors, *lines, 'no reason given'][0]}"
