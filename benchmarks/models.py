"""Writes docs/models.md, the table of all networks (`make docs`).

The published figures come from docs/published.csv. Our figures are counted on networks without
memory for their weights.
"""

import ast
import math
from dataclasses import dataclass
from pathlib import Path

import keras

import keras_archs
from benchmarks import tables
from keras_archs.graph import symbolic

FOLDER = Path(__file__).parents[1] / "docs"
HEAD = """# Networks

The table gives trainable parameters in millions and multiply-adds in billions for one image of the
given size. Networks have 1000 classes unless the first column says otherwise. Multiply-adds include
convolutions, dense layers and matrix products. The published figures and their sources are in
`published.csv`. Some sources also count biases and batch norms. This increases their figure by at
most 2 %. `make docs` writes this page. The tests compare each figure.

| network | input | parameters (M) | published | multiply-adds (G) | published | source |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Published:
    """A row of `published.csv`. Figures are as printed in the source; missing ones are empty."""

    model: str
    arguments: str
    input: str
    parameters_millions: str
    multiply_adds_billions: str
    source: str

    def build(self) -> keras.Model:
        """Builds the network. Inside `symbolic`, it takes no memory."""
        pairs = (pair.split("=") for pair in self.arguments.split())
        arguments = {name: ast.literal_eval(value) for name, value in pairs}
        side = int(self.input)
        return keras_archs.create_model(self.model, input_shape=(side, side, 3), **arguments)


@dataclass(frozen=True)
class Measured:
    """The same figures, counted on our network."""

    parameters_millions: float
    multiply_adds_billions: float


def published() -> list[Published]:
    return [Published(**row) for row in tables.read(FOLDER / "published.csv")]


def measure(row: Published) -> Measured:
    with symbolic():
        model = row.build()
        trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        return Measured(trainable / 1e6, keras_archs.profile(model).multiply_adds / 1e9)


def table(rows: list[tuple[Published, Measured]]) -> str:
    lines = (
        f"| `{row.model}({row.arguments.replace(' ', ', ')})` | {row.input}"
        f" | {ours.parameters_millions:.6f} | {row.parameters_millions}"
        f" | {ours.multiply_adds_billions:.3f} | {row.multiply_adds_billions} | {row.source} |\n"
        for row, ours in rows
    )
    return HEAD + "".join(lines)


if __name__ == "__main__":
    text = table([(row, measure(row)) for row in published()])
    (FOLDER / "models.md").write_text(text)
