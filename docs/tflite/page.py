"""The table of the matrix, `tflite.csv`, and the page that shows it, `tflite.md`."""

from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras_archs
from docs import tables
from docs.tflite.measure import CALIBRATION, OPEN, REPEATS, Row
from docs.tflite.networks import FITTED, TESTED
from keras_archs.files import atomic_write
from tflite_export.lowering import KINDS

FOLDER = Path(__file__).parents[1]
CSV, PAGE = FOLDER / "tflite.csv", FOLDER / "tflite.md"
TEXTS = {field.name for field in fields(Row) if field.type is str}
WHOLE = {"side", "operators"}

INTRODUCTION = f"""\
# Networks as TFLite files

Written by `make tflite-matrix`; [tflite.csv](tflite.csv) has the same figures and more. A network
gives logits for ten classes from small images. It is not trained, but has activations as in
training and a classifier fitted to {FITTED} images of Fashion-MNIST (`docs/tflite/networks.py`);
int8 and int16x8 have their ranges from {CALIBRATION} of these. weight_int4 leaves a weight 16
values, which is too few for most networks whose weights are random. Networks of more than 30
million parameters have the rows none and int8 only; those of CoAtNet-4 are missing, for its
conversion takes more than 16 GB of memory.

- **operators**: how many; and which of them XNNPACK, the delegate that makes phones' CPUs fast,
  leaves to the interpreter, as the interpreter itself tells. "custom" would be such as a plain
  runtime lacks.
- **GPU**: which the GPU delegate does not take, by the list of its own check.
- **agreement**: same class as Keras for so many of {TESTED} test images. **error**: the largest
  difference of two logits, and the root of the mean square of all, in standard deviations of the
  Keras model's logits: what they say does not hang on how near the first two classes are.
- **ms**: latency, the median of {REPEATS} single images after a warm-up, one thread, and from the
  tenth to the ninetieth percentile. XNNPACK computes what it takes. The images are small: this
  compares kinds, not networks in use.
- **arena**: memory of the activations as the interpreter lays it out without a delegate.
- **MB**: size of the file as it is written, metadata included. The rows so far were measured
  without metadata, which add about 1 kB and leave the scores as they are.
- **open batch**: whether the network converts with an open batch as well, and {OPEN} images at
  once come out as near to Keras; then what XNNPACK leaves of that file.
"""
BLOCKS = """
## Blocks

In float, XNNPACK and the GPU delegate take everything that the layers of `keras_archs.layers` lower
to: SE, swish, hard-swish, GELU, layer norms, ECA, CBAM, global context, non-local blocks, self-
attention with each kind of positions, multi-query attention, local response normalisation. Nothing
has more than four axes, splits unevenly, or asks for a shape at batch 1. With an open batch only
the `Reshape` or `Flatten` before a classifier (SHAPE, STRIDED_SLICE, PACK, RESHAPE) and ECA's
EXPAND_DIMS stay with the interpreter; the GPU delegate takes no open batch. SE is MEAN, two dense
layers and MUL; swish is LOGISTIC and MUL, which XNNPACK has in int8 as well; hard-swish is one
operator in float, and ADD and two MUL in int8. Rescaling and other preprocessing become part of the
first convolution where it pads nothing or nothing is subtracted; else they stay as MUL and ADD, and
where they differ by colour as one more convolution. `tests/tflite_export/test_rewording.py` and
`test_matrix.py` hold this.
"""
LEFT = """
## Operators that are left

What XNNPACK leaves to the interpreter at batch 1, but for int16x8: it has nothing with int16
activations, nor has the GPU delegate. The interpreter's own kernels compute these; each piece
between two of them is handed to XNNPACK by itself.
"""
WHY = {
    "ADD": "of the small constant in a layer norm: its scale is out of XNNPACK's range",
    "AVERAGE_POOL_2D": "XNNPACK has it in float alone",
    "BATCH_MATMUL": "of attention; XNNPACK has it in float alone",
    "CONV_2D": "with int4 kernels that are made float before",
    "DEPTHWISE_CONV_2D": "with float activations and int8 kernels that are not made float before",
    "DEQUANTIZE": "of int4 kernels, so that they are unpacked for each image",
    "FULLY_CONNECTED": "with int4 kernels that are made float before",
    "GELU": "XNNPACK has it in float alone",
    "MAX_POOL_2D": "of one pixel, the shortcut of ResNetV2: XNNPACK has no pooling of one",
    "MUL": "of the small constant in local response normalisation, as ADD",
    "EXP": "of local response normalisation; in float alone. The interpreter reads it from a table,"
    " which is fast",
    "LOG": "as EXP",
    "RELU": "of a sum that other operators take without it (Xception); in float alone",
    "RSQRT": "of layer norms; in float alone. The interpreter's own is slow, but there is one value"
    " for all channels",
    "SOFTMAX": "in float alone",
}


def read() -> list[Row]:
    return [
        Row(**{key: _value(key, text) for key, text in row.items()}) for row in tables.read(CSV)
    ]


def _value(key: str, text: str) -> Any:
    if key in TEXTS:
        return text
    return None if not text else int(text) if key in WHOLE else float(text)


def write(row: Row) -> None:
    """Puts a row in the place of the one of its network and kind, and makes the page anew."""
    others = [each for each in read() if (each.network, each.kind) != (row.network, row.kind)]
    names = keras_archs.list_models()
    rows = sorted(
        [*others, row], key=lambda each: (names.index(each.network), KINDS.index(each.kind))
    )
    tables.write(CSV, map(asdict, rows))
    atomic_write(PAGE, page(rows).encode())


def page(rows: list[Row]) -> str:
    head = [
        "network", "kind", "MB", "operators", "outside XNNPACK", "outside GPU", "Keras top-1",
        "agreement", "error max", "rms", "ms", "arena kB", "open batch",
    ]  # fmt: skip
    table = "\n".join(tables.markdown(head, map(_cells, rows)))
    machines = "".join(f"{name}.\n" for name in dict.fromkeys(row.machine for row in rows))
    return f"{INTRODUCTION}\n{machines}\n{table}\n{BLOCKS}{_left(rows)}"


def _cells(row: Row) -> list[str]:
    name = f"{row.network}, {row.side} px"
    if row.error:
        return [name, row.kind, row.error.replace("|", "/"), *[""] * 10]
    return [
        name, row.kind, f"{row.megabytes:.2f}", str(row.operators),
        row.outside_xnnpack + f" custom: {row.flex}" * bool(row.flex), row.outside_gpu,
        f"{row.keras_top1:.1%}", f"{row.agreement:.1%}", f"{row.max_error:.2g}",
        f"{row.rms_error:.2g}", _latency(row), f"{row.arena_kilobytes:.0f}",
        ": ".join(filter(None, (row.open_batch, row.open_outside_xnnpack))),
    ]  # fmt: skip


def _latency(row: Row) -> str:
    spread = row.latency_p10_ms, row.latency_p90_ms
    known = f" ({spread[0]:.2f} to {spread[1]:.2f})" if None not in spread else ""
    return f"{row.latency_ms:.2f}{known}"


def _left(rows: list[Row]) -> str:
    """Which operators are left in which kinds, and why."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for each in filter(None, row.outside_xnnpack.split(", ")):
            kinds[each.split()[1]].append(row.kind)
    lines = []
    for name, found in sorted(kinds.items()):
        # None of the steps with int16 activations is XNNPACK's, which goes without saying.
        own = [kind for kind in KINDS if kind in found and kind != "int16x8"]
        if own:
            lines.append([name, ", ".join(own), WHY.get(name, "")])
    return "\n".join([LEFT, *tables.markdown(["operator", "kinds", "why"], lines)]) + "\n"
