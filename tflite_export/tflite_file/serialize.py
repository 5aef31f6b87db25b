"""Converts TFLite files to objects of their schema, and back to bytes."""

import copy
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers.builder import BuilderSizeError

from ..runtime.errors import input_error

LARGEST = 2**31 - 1
"""Largest size of a file in bytes: offsets in a FlatBuffer are signed 32-bit numbers."""
_ALIGNMENT = 16
"""Alignment of each buffer in bytes, as the schema requires."""


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data begin at a multiple of 16; the generated class does not align them."""

    def Pack(self, builder: flatbuffers.Builder) -> Any:  # the generated name
        if self.data is not None:
            builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)


def unpack(content: bytes) -> Any:
    """Converts a file to a `ModelT` with all data in its fields.

    ai-edge-quantizer stores large buffers after the FlatBuffer, at offsets from the start of the
    file. The schema allows the same for options of custom operators. Both are read into their
    buffer or operator.

    Args:
        content: a TFLite file that an interpreter accepts.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    for buffer in model.buffers:
        buffer.data = _array(buffer.data)
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            operator.customOptions = _array(operator.customOptions)
    return model


def _array(data: Any) -> np.ndarray | None:
    """Bytes as a uint8 array, which the generated classes write at once, not byte by byte."""
    return None if data is None else np.frombuffer(data, np.uint8)


def pack(model: Any) -> bytes:
    """Converts a `ModelT` to a file: one FlatBuffer with all data inside and aligned buffers.

    Every runtime reads this layout. It has no offsets from the start of the file.

    Raises:
        InputError: the file would be larger than 2 GB.
    """
    model = copy.copy(model)
    model.buffers = [_AlignedBuffer(buffer.data) for buffer in model.buffers]
    # Checked first, so that a file that is too large does not fill the memory.
    check_size(sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None))
    try:
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    except BuilderSizeError as error:  # the rest of the file is too large
        raise _too_large(flatbuffers.Builder.MAX_BUFFER_SIZE) from error
    check_size(len(content))
    return content


def check_size(size: int) -> None:
    """Raises an InputError if `size` bytes are more than a FlatBuffer can have."""
    if size > LARGEST:
        raise _too_large(size)


def _too_large(size: int) -> ValueError:
    return input_error(
        f"model is too large for a TFLite file: it takes {size / 1e9:.2f} GB, a file has at most"
        f" {LARGEST / 1e9:.2f} GB. Choose a kind with smaller weights."
    )
