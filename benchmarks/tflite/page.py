"""Reads and writes the table docs/tflite.csv and its page docs/tflite.md."""

from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras_archs
from benchmarks import tables
from benchmarks.tflite.measure import CALIBRATION, OPEN, REPEATS, Row
from keras_archs.files import atomic_write
from tests.tflite_export.fitted_networks import FITTED, TESTED
from tflite_export.settings import KINDS

FOLDER = Path(__file__).parents[2] / "docs"
CSV, PAGE = FOLDER / "tflite.csv", FOLDER / "tflite.md"
TEXTS = {field.name for field in fields(Row) if field.type is str}
WHOLE = {"side", "operators"}

INTRODUCTION = f"""\
# Networks as TFLite files

`make tflite-matrix` writes this page. [tflite.csv](tflite.csv) has the same figures and more. Each
network returns logits for ten classes of small images. It is not trained. Its activations resemble
those of a trained network, and its classifier is fitted to {FITTED} images of Fashion-MNIST (see
`tests/tflite_export/fitted_networks.py`). The ranges of int8 and int16x8 are calibrated on
{CALIBRATION} of these images. With weight_int4, a weight has only 16 possible values. Most of these
networks lose much accuracy with it; trained networks have not been measured here. Networks with
more than 30 million parameters have rows for none and int8 only. CoAtNet-4 is missing because its
conversion takes more than 16 GB of memory.

- **operators**: number of operators. **outside XNNPACK**: operators that XNNPACK, the fast delegate
  for phones' CPUs, leaves to the interpreter, as reported by the interpreter. "custom" would mark
  operators that a plain runtime does not have.
- **outside GPU**: operators that the GPU delegate does not support, according to the list in its
  own check.
- **agreement**: share of {TESTED} test images for which file and Keras model predict the same
  class. **error**: the largest difference of logits, and the root mean square of all differences,
  in standard deviations of the Keras model's logits. Unlike the agreement, the error does not
  depend on the distance between the first two classes.
- **ms**: latency of a single image with one thread: the median of {REPEATS} images after a warm-up,
  and the tenth and ninetieth percentiles. XNNPACK computes its operators. The images are small, so
  compare kinds, not networks.
- **arena**: memory of the activations, planned by the interpreter without a delegate.
- **MB**: size of the file without metadata, which add about 1 kB.
- **any batch**: "yes" if the network also converts with `--any-batch`, and the scores of {OPEN}
  images at once are as close to Keras as those of one image. The operators of this file that
  XNNPACK does not run follow.
"""
BLOCKS = """
## Blocks

In float, XNNPACK and the GPU delegate support all operators of the layers in `keras_archs.layers`:
SE, swish, hard-swish, GELU, layer norms, ECA, CBAM, global context, non-local blocks,
self-attention with all kinds of positions, multi-query attention, and local response normalisation.
At batch 1, all tensors have at most four dimensions and a static shape, and all splits have equal
parts. With an open batch, XNNPACK does not run the `Reshape` or `Flatten` before a classifier
(SHAPE, STRIDED_SLICE, PACK, RESHAPE) and EXPAND_DIMS of ECA. The GPU delegate does not support an
open batch.

SE becomes MEAN, two dense layers and MUL. Swish becomes LOGISTIC and MUL, which XNNPACK also
supports in int8. Hard-swish becomes a single operator in float, and ADD and two MUL in int8.
Rescaling and other preprocessing are folded into the first convolution if it has no padding or
nothing is subtracted. Otherwise, they remain as MUL and ADD, or as one more convolution if they
differ between colours. `tests/tflite_export/test_substitute.py` and `test_families.py` check this.
"""
LEFT = """
## Operators outside XNNPACK

The table lists the operators that XNNPACK leaves to the interpreter at batch 1. It omits int16x8:
neither XNNPACK nor the GPU delegate supports int16 activations. The interpreter's own kernels
compute these operators. XNNPACK computes each part of the network between two of them.
"""
WHY = {
    "ADD": "small constant in a layer norm: its scale is out of XNNPACK's range",
    "AVERAGE_POOL_2D": "XNNPACK supports it in float only",
    "BATCH_MATMUL": "attention; XNNPACK supports it in float only",
    "CONV_2D": "int4 kernels that are converted to float before",
    "DEPTHWISE_CONV_2D": "float activations with int8 kernels that are not converted to float",
    "DEQUANTIZE": "int4 kernels: they are unpacked for each image",
    "FULLY_CONNECTED": "int4 kernels that are converted to float before",
    "GELU": "XNNPACK supports it in float only",
    "MAX_POOL_2D": "pooling of one pixel, the shortcut of ResNetV2: XNNPACK does not support it",
    "MUL": "small constant in local response normalisation, as for ADD",
    "EXP": "local response normalisation; XNNPACK supports it in float only. The interpreter uses a"
    " table, which is fast",
    "LOG": "as for EXP",
    "RELU": "ReLU of a sum that other operators use without it (Xception); XNNPACK supports it in"
    " float only",
    "RSQRT": "layer norms; XNNPACK supports it in float only. The interpreter's kernel is slow, but"
    " there is one value for all channels",
    "SOFTMAX": "XNNPACK supports it in float only",
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
    """Replaces the row of the same network and kind, and writes the page again."""
    names = keras_archs.list_models()
    merged = {(old.network, old.kind): old for old in read()} | {(row.network, row.kind): row}
    keys = sorted(merged, key=lambda key: (names.index(key[0]), KINDS.index(key[1])))
    rows = [merged[key] for key in keys]
    tables.write(CSV, map(asdict, rows))
    atomic_write(PAGE, page(rows).encode())


def page(rows: list[Row]) -> str:
    head = [
        "network", "kind", "MB", "operators", "outside XNNPACK", "outside GPU", "Keras top-1",
        "agreement", "error max", "rms", "ms", "machine", "arena kB", "any batch",
    ]  # fmt: skip
    letters, machines = tables.legend(row.machine for row in rows)
    table = tables.markdown(head, (_cells(row, letters[row.machine]) for row in rows))
    parts = [INTRODUCTION, *machines, "", *table, BLOCKS]
    return "\n".join(parts) + _left(rows)


def _cells(row: Row, machine: str) -> list[str]:
    name = f"{row.network}, {row.side} px"
    if row.error:
        return [name, row.kind, row.error.replace("|", "/"), *[""] * 11]
    return [
        name, row.kind, f"{row.megabytes:.2f}", str(row.operators),
        row.outside_xnnpack + f" custom: {row.flex}" * bool(row.flex), row.outside_gpu,
        f"{row.keras_top1:.1%}", f"{row.agreement:.1%}", f"{row.max_error:.2g}",
        f"{row.rms_error:.2g}", _latency(row), machine, f"{row.arena_kilobytes:.0f}",
        ": ".join(filter(None, (row.open_batch, row.open_outside_xnnpack))),
    ]  # fmt: skip


def _latency(row: Row) -> str:
    spread = row.latency_p10_ms, row.latency_p90_ms
    percentiles = f" ({spread[0]:.2f} to {spread[1]:.2f})" if None not in spread else ""
    return f"{row.latency_ms:.2f}{percentiles}"


def _left(rows: list[Row]) -> str:
    """Lists the operators outside XNNPACK, their kinds, and the reasons."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for count_and_name in filter(None, row.outside_xnnpack.split(", ")):
            kinds[count_and_name.split()[1]].add(row.kind)
    lines = []
    for name, outside in sorted(kinds.items()):
        # XNNPACK does not support int16 activations at all.
        listed = [kind for kind in KINDS if kind in outside and kind != "int16x8"]
        if listed:
            lines.append([name, ", ".join(listed), WHY.get(name, "")])
    return "\n".join([LEFT, *tables.markdown(["operator", "kinds", "why"], lines)]) + "\n"
