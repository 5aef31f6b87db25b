"""Standard TFLite metadata, and its place in a file.

There is no package for today's Pythons that writes it without TensorFlow, so its few tables are
written here by their numbers in metadata_schema.fbs of tensorflow/tflite-support.
"""

from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .errors import input_error
from .serializing import pack, unpack

if TYPE_CHECKING:
    from .metadata import Metadata

_METADATA_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # version of the schema that has all that is used here
_ENTRY = b"TFLITE_METADATA"
# Of the schema's unions and enumerations:
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_UNKNOWN, _RGB, _GRAYSCALE = 0, 1, 2
_DESCRIPTIONS, _AXIS_LABELS = 1, 2


def add_metadata(
    content: bytes, metadata: "Metadata", labels: str | None, files: list[str]
) -> bytes:
    """The file with an entry of standard metadata, which names the associated `files`.

    Raises:
        InputError: the file has such an entry already, or would have more than 2 GB.
    """
    model = unpack(content)
    entries = model.metadata or []
    if any(each.name == _ENTRY for each in entries):
        raise input_error("content has metadata already, without the files that they name.")
    encoded = np.frombuffer(_encode(metadata, labels, files), np.uint8)
    model.metadata = [*entries, schema.MetadataT(_ENTRY, len(model.buffers))]
    model.buffers.append(schema.BufferT(encoded))
    return pack(model)


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _encode(metadata: "Metadata", labels: str | None, files: list[str]) -> bytes:
    """A ModelMetadata."""
    builder = flatbuffers.Builder()

    def table(offsets: dict[int, int], small: dict[int, int] | None = None) -> int:
        """A table of fields by their number: references, and numbers of one byte."""
        small = small or {}
        builder.StartObject(1 + max([*offsets, *small], default=-1))
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, value in small.items():
            builder.PrependUint8Slot(slot, value, 0)
        return builder.EndObject()

    def floats(values: list[float]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return builder.EndVector()

    def tensor(name: str, content: int, **lists: list[int]) -> int:
        numbers = {"process_units": 4, "associated_files": 6}
        vectors = {numbers[key]: _vector(builder, value) for key, value in lists.items() if value}
        return table({0: builder.CreateString(name), 3: content, **vectors})

    def associated(file: str, kind: int) -> int:
        return table({0: builder.CreateString(file)}, {2: kind})

    # The standard knows no BGR; a reader that asks for RGB then refuses the file.
    colours = _GRAYSCALE if metadata.image_shape[-1] == 1 else _UNKNOWN if metadata.bgr else _RGB
    mean, scale = (floats(values.tolist()) for values in metadata.constants())
    normalization = table({1: table({0: mean, 1: scale})}, {0: _NORMALIZATION})
    image = tensor(
        "image",
        table({1: table({}, {0: colours})}, {0: _IMAGE}),
        process_units=[normalization],
    )
    scores = tensor(
        "scores",
        table({1: table({})}, {0: _FEATURE}),
        associated_files=[associated(labels, _AXIS_LABELS)] if labels else [],
    )
    graph = table({2: _vector(builder, [image]), 3: _vector(builder, [scores])})
    others = [associated(file, _DESCRIPTIONS) for file in files if file != labels]
    fields = {
        0: builder.CreateString("image classifier"),
        3: _vector(builder, [graph]),
        6: _vector(builder, others),
        7: builder.CreateString(_PARSER),
    }
    builder.Finish(table(fields), file_identifier=_METADATA_IDENTIFIER)
    return bytes(builder.Output())
