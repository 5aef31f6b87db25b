"""Writes standard TFLite metadata into a file.

No package for current versions of Python writes them without TensorFlow. This module writes the few
tables by their field numbers in metadata_schema.fbs of tensorflow/tflite-support.
"""

import io
import json
import zipfile
import zlib
from dataclasses import asdict

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..runtime.classifier import Classifier
from ..runtime.errors import input_error
from ..runtime.metadata import FACTS, FORMAT, LABELS, Metadata, has_archive
from .serialize import check_size, pack, unpack

_METADATA_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # the oldest version of the schema with all fields that are used here
_ENTRY = b"TFLITE_METADATA"
# Values of the schema's unions and enumerations:
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_UNKNOWN, _RGB, _GRAYSCALE = 0, 1, 2
_DESCRIPTIONS, _AXIS_LABELS = 1, 2


def add_metadata(content: bytes, metadata: Metadata, labels: str | None, files: list[str]) -> bytes:
    """Adds an entry of standard metadata, which names the associated `files`, to a file.

    Raises:
        InputError: the file already has such an entry, or would be larger than 2 GB.
    """
    model = unpack(content)
    entries = model.metadata or []
    if any(entry.name == _ENTRY for entry in entries):
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


def _encode(metadata: Metadata, labels: str | None, files: list[str]) -> bytes:
    """A ModelMetadata table."""
    builder = flatbuffers.Builder()

    def table(offsets: dict[int, int], small: dict[int, int] | None = None) -> int:
        """A table of references and one-byte numbers, by their field numbers."""
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

    # The standard has no BGR. A reader that needs RGB refuses a file of unknown colour space.
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


def attach(content: bytes, metadata: Metadata) -> bytes:
    """Adds metadata to a TFLite file: the names of the classes, and one or two kilobytes.

    Raises:
        ValueError: `content` is not the file of a classifier, already has metadata or other files,
            or would be larger than 2 GB; or `metadata` does not match its shapes.
    """
    if has_archive(content):
        raise input_error("content has metadata already, or other files packed with it.")
    classifier = Classifier(content)
    if classifier.image_shape != metadata.image_shape:
        raise input_error(
            f"metadata is for images of {metadata.image_shape}, but the file takes"
            f" {classifier.image_shape}."
        )
    names = metadata.class_names
    if names is not None and len(names) != classifier.classes:
        raise input_error(
            f"metadata has {len(names)} class names for {classifier.classes} classes."
        )

    labelled = {} if names is None else {LABELS: "\n".join(names) + "\n"}
    # The standard has one label for each output.
    labels = LABELS if names and len(names) == classifier.scores else None
    network = add_metadata(content, metadata, labels, [FACTS, *labelled])
    facts = {"format": FORMAT, **asdict(metadata), "crc32": zlib.crc32(network)}
    del facts["class_names"]  # they are in labels.txt
    files = {FACTS: json.dumps(facts, indent=1) + "\n", **labelled}
    file = io.BytesIO()
    file.write(network)
    with zipfile.ZipFile(file, "a") as archive:  # not compressed, as the standard's readers need
        for name, text in files.items():
            # A fixed time: the same network always gives the same file.
            archive.writestr(zipfile.ZipInfo(name), text)
    check_size(file.tell())
    return file.getvalue()
