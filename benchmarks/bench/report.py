"""Writes the results of `make bench`: a page, a CSV file and a plot."""

import dataclasses
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import tables
from keras_archs.display.machine import processor_name

FOLDER = Path(__file__).parents[2] / "docs"
CSV, PICTURE, PAGE = (FOLDER / f"benchmarks.{suffix}" for suffix in ("csv", "png", "md"))

EXPLAINED = {
    "peak": "The speed of multiplying two 4096x4096 matrices. The section Train takes it as the"
    " peak speed of the machine.",
    "build": "Ratio: the peer's time divided by ours.",
    "kernels": "Forward and backward pass of a layer. Ratio: the time of Keras' layer divided by"
    " ours.",
    "train": "A step of SGD with momentum on random images. Ratio: our images per second divided by"
    " the peer's. Share of peak: multiply-adds of forward and backward pass (three times those of"
    " the network) relative to the section Peak at the same precision. Memory: the highest"
    " resident memory of the process. Its ratio is ours divided by the peer's.",
    "operations": "The share of each kind of operation in the time of a training step, from"
    " TensorFlow's profiler. In networks where convolutions take most of the time, they run at the"
    " machine's peak (see the sections Peak and Train). Another implementation can then speed up"
    " only the other operations.",
    "memory": "Highest resident memory of a process that trains with recomputed stages"
    " (`rematerialize`). Ratio: this memory divided by the memory without recomputation.",
    "infer": "Ratio: our images per second divided by the peer's. `fused` is the network after"
    " `keras_archs.fuse`; the peer is the network of keras.applications as it is. The share of peak"
    " can exceed 100 %, because the peak is measured with one size of matrix.",
    "input": "Epochs of 224x224 pixels from a folder of JPEGs of 500x375 pixels. The time to open"
    " the folder is not included; we decode every file then to find corrupt ones. We apply a random"
    " resized crop (decoding only this part) and a flip. Peers: `image_dataset_from_directory` at"
    " 256x256 with Keras' RandomCrop and RandomFlip; the same with RandomZoom before them, which is"
    " Keras' nearest equivalent of a resized crop; and only `decode_jpeg` of whole files. Ratio:"
    " our images per second divided by the peer's. Decoding limits the ratio: no pipeline can be"
    " twice as fast as a peer that reaches more than half of the speed of `decode_jpeg`. Memory"
    " over 20,000 steps: [plot](input_memory.png) by `python -m benchmarks.bench.memory_curve`.",
    "augmentation": "Epochs of images in memory. RandAugment: two operations of strength 9 of 10."
    " Random Erasing: one image in four. Peers: Keras' preprocessing layers of the same names, on"
    " batches. Ratio: our images per second divided by the peer's.",
    "export": "TFLite files in float32 and in calibrated int8. Ratio: size, or time for one image,"
    " of our file divided by that of the peer. The peer is the file that"
    " `TFLiteConverter.from_keras_model` makes of the same network of keras.applications. Both"
    " files include preprocessing if the network of keras.applications does.",
    "gpu": "A training step on one GPU. `compiled` means with XLA (Keras) or torch.compile (timm);"
    " such rows are not measured yet. Ratio: our images per second divided by the peer's.",
}


@dataclass(frozen=True)
class Row:
    """A comparison with a peer.

    Attributes:
        section: section of the report.
        subject: the network, or another subject.
        setting: precision, batch size and similar settings.
        ours: our value in `unit`.
        unit: unit of both values.
        peer: name of the peer.
        theirs: value of the peer, or None without a peer.
        ratio: median of the ratios of all rounds.
        share: share of the machine's peak, where defined.
        machine: machine of the measurement.
        rounds: number of rounds.
    """

    section: str
    subject: str
    setting: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None
    share: float | None = None
    machine: str = ""
    rounds: str = ""


def machine(device: str | None = None) -> str:
    """Describes processor or device, and versions, in one line."""
    packages = ("keras", "tensorflow", "torch", "timm", "keras-hub")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = device or f"{processor_name()}, {cores} {'core' if cores == 1 else 'cores'}"
    return f"{name}; Python {platform.python_version()}, {', '.join(versions)}"


def gpu_name() -> str | None:
    """The name of TensorFlow's first GPU, or None."""
    import tensorflow as tf  # noqa: PLC0415  # after the timing of imports

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return None
    return tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU")


def write(row: Row) -> None:
    """Replaces the earlier row of the same comparison, and writes page and plot again."""
    merged = {_key(item): item for item in [*read(), row]}
    order = list(EXPLAINED)
    rows = sorted(merged.values(), key=lambda row: order.index(row.section))
    tables.write(CSV, map(dataclasses.asdict, rows))
    _draw(rows)
    PAGE.write_text(page(rows))


def _key(row: Row) -> tuple[str, ...]:
    return row.section, row.subject, row.setting, row.peer


def read() -> list[Row]:
    numbers = ("ours", "theirs", "ratio", "share")
    return [
        Row(**{k: (float(v) if v else None) if k in numbers else v for k, v in row.items()})  # type: ignore[arg-type]
        for row in tables.read(CSV)
    ]


def page(rows: list[Row]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "`make bench` writes this page. Figures are medians of several rounds. In each round, all"
        " candidates of a line run once. A ratio is the median of the ratios of the rounds, so it"
        " can differ from the quotient of the two figures beside it. Networks have random weights."
        " The machine is shared with other users, so compare ratios, not absolute figures."
        " `benchmarks.csv` has the same figures.",
    ]
    for section in dict.fromkeys(row.section for row in rows):
        section_rows = [row for row in rows if row.section == section]
        lines += [
            "",
            f"## {'GPU' if section == 'gpu' else section.capitalize()}",
            "",
            EXPLAINED[section],
            "",
        ]
        runs = [f"{row.machine}; {row.rounds} rounds" for row in section_rows]
        letters, machines = tables.legend(runs)
        lines += [*machines, "", *table(section_rows, [letters[run] for run in runs])]
        if section == "train":
            lines += ["", "![ratios of training speed](benchmarks.png)"]
    return "\n".join(lines) + "\n"


def table(rows: Iterable[Row], machines: Iterable[str]) -> list[str]:
    """Formats rows as a Markdown table; `machines` has the letter of each row's machine."""
    rows = list(rows)
    shares = any(row.share is not None for row in rows)
    head = ["measured", "setting", "ours", "peer", "theirs", "ratio", *["share of peak"] * shares]
    head.append("machine")
    cells = [
        [
            row.subject,
            row.setting,
            f"{row.ours:.4g} {row.unit}",
            row.peer,
            "" if row.theirs is None else f"{row.theirs:.4g}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            *(["" if row.share is None else f"{row.share:.0%}"] * shares),
            machine,
        ]
        for row, machine in zip(rows, machines, strict=True)
    ]
    return tables.markdown(head, cells)


def _draw(rows: list[Row]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  # only needed for the plot

    rows = [row for row in rows if row.section == "train" and row.ratio and row.unit != "MB"]
    if not rows:
        return
    labels = list(dict.fromkeys((row.peer, row.setting.split(",")[0]) for row in rows))
    networks = list(dict.fromkeys(row.subject for row in rows))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(labels)
    for index, label in enumerate(labels):
        series = [row for row in rows if (row.peer, row.setting.split(",")[0]) == label]
        shift = (index - (len(labels) - 1) / 2) * width
        places = [networks.index(row.subject) + shift for row in series]
        axes.bar(places, [row.ratio or 0 for row in series], width, label=" ".join(label))
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(networks)), networks, rotation=20)
    axes.set_ylabel("images a second, ours / peer")
    axes.legend()
    figure.savefig(PICTURE, dpi=110)
