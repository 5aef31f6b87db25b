"""Draws Fashion-MNIST small from the Fashion-MNIST files; the result is always the same.

python -m training.data.fashion_mnist_small.make --source DIR --out DIR
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

from .idx import format_idx, parse_idx

IMAGES_PER_CLASS = {"train": 1000, "t10k": 200}
CLASSES = 10
SEED = 0


def draw(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Returns int64 indices of `per_class` images of each class, in random order."""
    # NumPy guarantees the streams of RandomState. Those of Generator may change.
    order = np.random.RandomState(SEED).permutation(len(labels))
    firsts = [np.flatnonzero(labels[order] == label)[:per_class] for label in range(CLASSES)]
    return order[np.sort(np.concatenate(firsts))]


def make(source: Path, out: Path) -> None:
    """Writes the four idx files to `out` from the four idx.gz files in `source`."""
    out.mkdir(parents=True, exist_ok=True)
    for split, per_class in IMAGES_PER_CLASS.items():
        names = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
        images, labels = (
            parse_idx(gzip.decompress((source / f"{name}.gz").read_bytes())) for name in names
        )
        indices = draw(labels, per_class)
        for name, array in zip(names, (images, labels), strict=True):
            # Not compressed: the output of gzip depends on the version of zlib.
            (out / name).write_bytes(format_idx(array[indices]))


def main() -> None:
    """Runs `make` with the folders from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True, help="folder of the idx.gz files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    make(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
