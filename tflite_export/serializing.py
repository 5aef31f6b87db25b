"""TFLite files as objects of their schema, and back to bytes."""

import copy
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers.builder import BuilderSizeError

from .errors import input_error

LARGEST = 2**31 - 1
"""Bytes that a file can have: offsets in a FlatBuffer are signed numbers of 32 bits."""
_ALIGNMENT = 16
"""Of each buffer, in bytes, as the schema asks for."""


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data begin at a multiple of 16, which the generated class does not see to."""

    def Pack(self, builder: flatbuffers.Builder) -> Any:  # the generated name
        if self.data is not None:
            builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)


def unpack(content: bytes) -> Any:
    """A file as a `ModelT`, with everything in its fields.

    ai-edge-quantizer stores large buffers after the FlatBuffer, at offsets from the start of the
    file, and the schema allows the same for options of custom operators. Both are read into the
    buffer or the operator that they belong to.

    Args:
        content: a TFLite file that an interpreter takes.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    for buffer in model.buffers:
        buffer.data = _array(buffer.data)
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            operator.customOptions = _array(operator.customOptions)
    return model


def _array(data: Any) -> np.ndarray | None:
    """Bytes as uint8, which the generated classes write at once instead of one by one."""
    return None if data is None else np.frombuffer(data, np.uint8)


def pack(model: Any) -> bytes:
    """The file of a `ModelT`: one FlatBuffer with all data inside, the buffers aligned.

    Every runtime reads this layout, and nothing in it depends on where in the file it stands.

    Raises:
        InputError: the file would have more than 2 GB.
    """
    model = copy.copy(model)
    model.buffers = [_AlignedBuffer(each.data) for each in model.buffers]
    # Before as much memory is filled.
    check_size(sum(len(each.data) for each in model.buffers if each.data is not None))
    try:
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    except BuilderSizeError as error:  # by what is beside the buffers
        raise _too_large(flatbuffers.Builder.MAX_BUFFER_SIZE) from error
    check_size(len(content))
    return content


def check_size(size: int) -> None:
    """Raises an InputError if a file of so many bytes is larger than a FlatBuffer can be."""
    if size > LARGEST:
        raise _too_large(size)


def _too_large(size: int) -> ValueError:
    return input_error(
        f"model is too large for a TFLite file: it takes {size / 1e9:.2f} GB, a file has at most"
        f" {LARGEST / 1e9:.2f} GB. Choose a kind with smaller weights."
    )
