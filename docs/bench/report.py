"""What `make bench` writes: a table, a CSV file and a picture."""

import dataclasses
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from docs import tables

FOLDER = Path(__file__).parents[1]
CSV, PICTURE, PAGE = (FOLDER / f"benchmarks.{suffix}" for suffix in ("csv", "png", "md"))

EXPLAINED = {
    "peak": "What a product of two 4096x4096 matrices reaches: the machine's speed in training.",
    "build": "Time of the peer divided by ours.",
    "kernels": "Forward and backward pass of one layer. Ratio: time of Keras' layer divided by"
    " ours.",
    "train": "One step of SGD with momentum on random images. Ratio: how many times as many images"
    " a second as the peer. Share of peak: multiply-adds of forward and backward pass, three times"
    " those of the network, against the section `peak` at the same precision. Memory: the"
    " highest resident memory of the process; ratio: ours divided by the peer's.",
    "operations": "Shares of the time of all operations of a training step, as TensorFlow's"
    " profiler sees them. Where convolutions take most of it, they run at the machine's peak (see"
    " `peak` and the shares in `train`), and the rest is all that another implementation can save.",
    "memory": "Highest resident memory of a process that trains with stages computed again"
    " (`rematerialize`). Ratio: that divided by the memory without.",
    "infer": "Ratio: how many times as many images a second as the peer.",
    "input": "Epochs of 224x224 pixels from a folder of JPEGs of 500x375; opening the folder, where"
    " ours reads every file to find corrupt ones, is not counted. Ours: random resized crop, no"
    " more being decoded than that, and flip. Peers: `image_dataset_from_directory` at 256x256 with"
    " Keras' RandomCrop and RandomFlip, or with RandomZoom in front of them, the nearest to a"
    " resized crop that Keras has; and `decode_jpeg` of whole files alone. Ratio: how many times as"
    " many images a second; twice a peer that has more than half of the last one's speed is out of"
    " reach of whoever decodes. Memory over 20,000 steps: [picture](input_memory.png), drawn by"
    " `python -m docs.bench.memory_curve`.",
    "augmentation": "Epochs of images in memory. RandAugment: two operations of strength 9 of 10."
    " Random Erasing: of one image in four. Peers: Keras' preprocessing layers of the name, on"
    " batches. Ratio: how many times as many images a second.",
    "export": "TFLite files in float32 and, calibrated, in int8. Ratio: size, or time for one"
    " image, of ours divided by that of what `TFLiteConverter.from_keras_model` makes of the same"
    " network of keras.applications, preprocessing inside where that has it inside.",
    "gpu": "Training on a GPU. Ratio: how many times as many images a second as the peer.",
}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        section: of the report.
        subject: the network, or what else is measured.
        setting: precision, batch and the like.
        ours: what we measured of ourselves, in `unit`.
        peer: whom we compare with.
        theirs: the peer's value; empty where there is no peer.
        unit: of both values.
        ratio: the median of the rounds' ratios.
        share: of the machine's peak, where it makes sense.
        machine: what it ran on.
        rounds: how many.
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
    """Processor or device and versions, in one line."""
    packages = ("keras", "tensorflow", "torch", "timm", "keras-hub")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = device or f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}"
    return f"{name}; Python {platform.python_version()}, {', '.join(versions)}"


def gpu_name() -> str | None:
    """Name of the GPU that TensorFlow computes on."""
    import tensorflow as tf  # noqa: PLC0415  # not before the imports are timed

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return None
    return tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else ():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def write(row: Row) -> None:
    """Puts a row in the place of an earlier one of the same in the CSV file.

    Page and picture are made anew.
    """
    merged = {_key(each): each for each in [*_read(), row]}
    order = list(EXPLAINED)
    rows = sorted(merged.values(), key=lambda row: order.index(row.section))
    tables.write(CSV, map(dataclasses.asdict, rows))
    _draw(rows)
    PAGE.write_text(page(rows))


def _key(row: Row) -> tuple[str, ...]:
    return row.section, row.subject, row.setting, row.peer


def _read() -> list[Row]:
    numbers = ("ours", "theirs", "ratio", "share")
    return [
        Row(**{k: (float(v) if v else None) if k in numbers else v for k, v in row.items()})  # type: ignore[arg-type]
        for row in tables.read(CSV)
    ]


def page(rows: list[Row]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: medians of rounds, in each of which all candidates of a line run"
        " once. Networks have random weights; absolute figures are those of a machine that others"
        " share, ratios are what to look at. `benchmarks.csv` has the same figures.",
    ]
    for section in dict.fromkeys(row.section for row in rows):
        here = [row for row in rows if row.section == section]
        lines += ["", f"## {section.capitalize()}", "", EXPLAINED[section], ""]
        runs = dict.fromkeys((row.machine, row.rounds) for row in here)
        lines += [f"{machine}; {rounds} rounds." for machine, rounds in runs]
        lines += ["", *table(here)]
        if section == "train":
            lines += ["", "![ratios of training speed](benchmarks.png)"]
    return "\n".join(lines) + "\n"


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as a table in Markdown."""
    rows = list(rows)
    shares = any(row.share is not None for row in rows)
    head = ["measured", "setting", "ours", "peer", "theirs", "ratio", *["share of peak"] * shares]
    cells = [
        [
            row.subject,
            row.setting,
            f"{row.ours:.4g} {row.unit}",
            row.peer,
            "" if row.theirs is None else f"{row.theirs:.4g}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            *(["" if row.share is None else f"{row.share:.0%}"] * shares),
        ]
        for row in rows
    ]
    return tables.markdown(head, cells)


def _draw(rows: list[Row]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  # only where a picture is made

    rows = [row for row in rows if row.section == "train" and row.ratio and row.unit != "MB"]
    if not rows:
        return
    labels = list(dict.fromkeys((row.peer, row.setting.split(",")[0]) for row in rows))
    networks = list(dict.fromkeys(row.subject for row in rows))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(labels)
    for index, label in enumerate(labels):
        here = [row for row in rows if (row.peer, row.setting.split(",")[0]) == label]
        shift = (index - (len(labels) - 1) / 2) * width
        places = [networks.index(row.subject) + shift for row in here]
        axes.bar(places, [row.ratio or 0 for row in here], width, label=" ".join(label))
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(networks)), networks, rotation=20)
    axes.set_ylabel("images a second, ours / peer")
    axes.legend()
    figure.savefig(PICTURE, dpi=110)
