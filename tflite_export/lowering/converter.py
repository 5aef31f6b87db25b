"""Sets up TensorFlow's converter for a Keras model, and makes its errors one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import keras
import tensorflow as tf

from keras_archs.errors import InputError

_NAMED = 3
"""Largest number of operations that an error names."""


def make_converter(
    model: keras.Model, shape: tuple[int | None, int, int, int]
) -> tf.lite.TFLiteConverter:
    """A converter of `model` for a batch of images.

    `from_keras_model` keeps the batch open. Networks with reshapes then compute the new shape at
    run time, which splits the graph for XNNPACK. Each file is also slightly larger.

    Raises:
        InputError: the model has a loop.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": model(image, training=False)}

    function = tf.function(
        serve, input_signature=[tf.TensorSpec(shape, tf.float32, "image")], autograph=False
    )
    # The converter makes weights constants and folds batch norms only if it finds the variables in
    # a module. Keras' variables hide TensorFlow's variables.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    _check_no_loop(concrete.graph)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)


def _check_no_loop(graph: tf.Graph) -> None:
    # Its file has several graphs, which reports and metadata do not support. TensorFlow ends the
    # process if it has to measure ranges inside a loop.
    definition = graph.as_graph_def()
    inner = (function.node_def for function in definition.library.function)
    for node in chain(definition.node, *inner):
        if node.op in {"While", "StatelessWhile"}:
            raise InputError(
                f"model has a loop, {node.name!r}, which a file of one graph cannot hold. Leave it"
                " out, or unroll it: recurrent layers have unroll=True."
            )


@contextmanager
def built_in_alone() -> Iterator[None]:
    """Turns errors of the converter into a one-line InputError; the original is its cause.

    The error names operations without a built-in operator of TFLite, with their types if the
    converter names them.

    Raises:
        InputError: the model cannot be called or cannot be converted.
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
    # Keras adds colours and a prefix to the error of a layer; MLIR adds source locations.
    lines = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    lines = [x.strip() for x in lines if x.strip() and not x.startswith("Exception encountered")]
    errors = [line.rpartition("error: ")[2] for line in lines if "error: " in line]
    return f"model cannot be converted: {[*errors, *lines, 'no reason given'][0]}"
