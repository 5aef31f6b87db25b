"""Standard TFLite metadata, and its place in a file.

There is no package for today's Pythons that writes it without TensorFlow, so its few tables are
written here by their numbers in metadata_schema.fbs of tensorflow/tflite-support.
"""

from typing import TYPE_CHECKING

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

if TYPE_CHECKING:
    from .metadata import Metadata

_IDENTIFIER = b"TFL3"
_METADATA_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # version of the schema that has all that is used here
_ENTRY = "TFLITE_METADATA"
_ALIGNMENT = 16  # of buffers, in the schema of TFLite and in that of the metadata
# Of the schema's unions and enumerations:
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_UNKNOWN, _RGB, _GRAYSCALE = 0, 1, 2
_DESCRIPTIONS, _AXIS_LABELS = 1, 2


def add_metadata(
    content: bytes, metadata: "Metadata", labels: str | None, files: list[str]
) -> bytes:
    """The file with an entry of standard metadata, which names the associated `files`.

    Offsets in a FlatBuffer point forward and are relative. So a new root with longer lists of
    buffers and entries comes in front of the old file, which stays as it is, byte for byte, its
    buffers as aligned as before. The generated classes could only write all of it anew.
    """
    builder = flatbuffers.Builder()
    old = Table(content, Table(content, 0).Indirect(0))
    buffers, entries = (_elements(old, slot) for slot in (_BUFFERS, _ENTRIES))

    encoded = _encode(metadata, labels, files)
    builder.Prep(_ALIGNMENT, len(encoded))
    data = builder.CreateByteVector(encoded)
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    buffer = schema.BufferEnd(builder)
    name = builder.CreateString(_ENTRY)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    schema.MetadataAddBuffer(builder, len(buffers))
    entry = schema.MetadataEnd(builder)
    vectors = {
        _BUFFERS: _vector(builder, [*buffers, buffer]),
        _ENTRIES: _vector(builder, [*entries, entry]),
    }
    builder.StartObject(_FIELDS)
    builder.PrependUint32Slot(0, schema.Model.GetRootAs(content).Version(), 0)
    for slot in range(1, _FIELDS):
        builder.PrependUOffsetTRelativeSlot(slot, vectors.get(slot) or _child(old, slot), 0)
    builder.Finish(builder.EndObject(), file_identifier=_IDENTIFIER)
    return bytes(builder.Output()) + content


# Fields of a Model in TFLite's schema: version, operator_codes, subgraphs, description, buffers,
# metadata_buffer, metadata, signature_defs.
_BUFFERS, _ENTRIES, _FIELDS = 4, 6, 8


def _child(table: Table, slot: int) -> int:
    """Where the field's object is, as an offset of the builder in front of it; 0 for nothing.

    Builders count from the end of what they write; what is behind it has negative offsets.
    """
    field = table.Offset(4 + 2 * slot)
    return -table.Indirect(table.Pos + field) if field else 0


def _elements(table: Table, slot: int) -> list[int]:
    """The same of each table in a field that is a list."""
    field = table.Offset(4 + 2 * slot)
    if not field:
        return []
    start = table.Vector(field)
    return [-table.Indirect(start + 4 * i) for i in range(table.VectorLen(field))]


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
