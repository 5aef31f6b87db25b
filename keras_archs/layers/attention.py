"""Multi-head self-attention over the positions of a feature map."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..arguments import (
    check_choice,
    check_flag,
    check_positive_int,
    check_rate,
    if_given,
)
from ..errors import InputError
from .block import Block, Shape, channels_of, full_precision, register
from .drop_in.dense import Dense

POSITIONS = (None, "absolute", "relative", "bias")


@register
class MultiHeadSelfAttention2D(Block):
    """Self-attention in which every position attends to all positions, in several heads.

    Scores are `q . k / sqrt(key_dim)` plus a position term, followed by a softmax over the keys.
    Both are computed in float32.

    Args:
        num_heads: number of heads.
        key_dim: channels of the queries and keys of a head; `value_dim` by default.
        value_dim: channels of the values of a head; by default the input's channels divided by
            `num_heads`.
        position: the position term. `"relative"`: `q . (r_h + r_w)` with r learned for each
            distance in rows and in columns, and shared by the heads (BoTNet, AANet).
            `"absolute"`: the same with r learned for each row and column. `"bias"`: a learned
            number for each head and distance (CoAtNet). None: no term, and any height and width.
        use_bias: whether the projections have a bias.
        output_dim: channels of an output projection; None concatenates the heads' values.
        dropout: dropout rate of the attention weights during training.

    Input: `(batch, height, width, channels)`. Output: the same with `output_dim`, or
    `num_heads * value_dim`, channels.

    A `.keras` or `.weights.h5` file saved at another size can be loaded: the position terms are
    interpolated. A legacy `.h5` file must have the same size, since Keras checks its shapes first.

    Raises:
        ValueError: an argument is out of range; `num_heads` does not divide the channels; or, with
            a position term, the height or width is unknown or differs from the built size.

    Source: Srinivas et al. 2021, arXiv:2101.11605, figure 4; Bello et al. 2019, arXiv:1904.09925,
    section 3.2; Dai et al. 2021, arXiv:2106.04803, equation 3.
    """

    def __init__(
        self,
        num_heads: int = 4,
        key_dim: int | None = None,
        value_dim: int | None = None,
        position: str | None = "relative",
        use_bias: bool = False,
        output_dim: int | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = check_positive_int("num_heads", num_heads)
        self.key_dim = if_given(check_positive_int, "key_dim", key_dim)
        self.value_dim = if_given(check_positive_int, "value_dim", value_dim)
        self.output_dim = if_given(check_positive_int, "output_dim", output_dim)
        self.position = check_choice("position", position, POSITIONS)
        self.use_bias = check_flag("use_bias", use_bias)
        self.dropout = check_rate("dropout", dropout)
        self.drop = self.inner(layers.Dropout, self.dropout, name="dropout")

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        if self.value_dim is None and channels % self.num_heads:
            raise InputError(
                f"{self.name} has num_heads={self.num_heads}, which does not divide the"
                f" {channels} channels of its input; give value_dim."
            )
        self._value_dim = self.value_dim or channels // self.num_heads
        self._key_dim = self.key_dim or self._value_dim
        # Height and width; may be None if there is no position term.
        self._size: Any = (input_shape[1], input_shape[2])
        heads_dim = self.num_heads * self._value_dim
        self.qkv = self._projection(channels, 2 * self.num_heads * self._key_dim + heads_dim, "qkv")
        if self.output_dim:
            self.project = self._projection(heads_dim, self.output_dim, "project")
        self.tables: list[Any] = []
        if self.position:
            self._add_positions()

    def _projection(self, channels: int, filters: int, name: str) -> Any:
        layer = self.inner(
            Dense,
            filters,
            use_bias=self.use_bias,
            kernel_initializer=keras.initializers.RandomNormal(stddev=channels**-0.5),
            name=name,
        )
        layer.build((None, None, None, channels))
        return layer

    def _add_positions(self) -> None:
        if None in self._size:
            raise InputError(
                f"{self.name} with position={self.position!r} has weights for each position: the"
                f" height and width must be known, got {self._size}; position=None takes any size."
            )
        if self.position == "bias":
            shape = (*(2 * side - 1 for side in self._size), self.num_heads)
            self.tables = [self.add_weight(shape, initializer="zeros", name="relative_bias")]
            return
        stddev = self._key_dim**-0.5
        self.tables = [
            self.add_weight(
                (2 * side - 1 if self.position == "relative" else side, self._key_dim),
                initializer=keras.initializers.RandomNormal(stddev=stddev),
                name=f"{axis}_{self.position}",
            )
            for axis, side in zip(("height", "width"), self._size, strict=True)
        ]

    def call(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        """Returns the output and, with `return_attention_scores`, the attention scores.

        The scores are after the softmax. Their shape is
        `(batch, num_heads, height, width, height, width)`.
        """
        if self.position and tuple(inputs.shape[1:3]) != self._size:
            raise InputError(
                f"{self.name} was built for maps of {self._size}, got {tuple(inputs.shape[1:3])}."
            )
        _, height, width, _ = ops.shape(inputs)
        query, key, value = map(self._heads, self._parts(self.qkv(inputs)))
        query = full_precision(query) * self._key_dim**-0.5
        scores = ops.matmul(query, ops.transpose(full_precision(key), (0, 1, 3, 2)))
        if self.position:
            scores += self._position_scores(query)
        scores = ops.softmax(scores, axis=-1)
        x = ops.matmul(self.drop(ops.cast(scores, value.dtype), training=training), value)
        x = ops.reshape(
            ops.transpose(x, (0, 2, 1, 3)), (-1, height, width, self.num_heads * self._value_dim)
        )
        if self.output_dim:
            x = self.project(x)
        if return_attention_scores:
            shape = (-1, self.num_heads, height, width, height, width)
            return x, ops.reshape(scores, shape)
        return x

    def _parts(self, x: Any) -> Any:
        """Splits the output of the projection into queries, keys and values."""
        if self._key_dim == self._value_dim:
            return ops.split(x, 3, axis=-1)
        # TFLite's CPU delegate does not support a split into unequal parts.
        keys = self.num_heads * self._key_dim
        return x[..., :keys], x[..., keys : 2 * keys], x[..., 2 * keys :]

    def _heads(self, x: Any) -> Any:
        """Reshapes a map to `(batch, heads, positions, channels of a head)`."""
        _, height, width, channels = ops.shape(x)
        shape = (-1, height * width, self.num_heads, channels // self.num_heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def _position_scores(self, query: Any) -> Any:
        height, width = self._size
        rows, columns = _distances(height), _distances(width)
        if self.position == "bias":
            bias = ops.take(ops.take(full_precision(self.tables[0]), rows, axis=0), columns, axis=2)
            # (row, key row, column, key column, head) to (head, query, key)
            bias = ops.transpose(bias, (4, 0, 2, 1, 3))
            return ops.reshape(bias, (1, self.num_heads, height * width, height * width))
        by_row, by_column = (full_precision(table) for table in self.tables)
        # Tensors have at most four axes, as GPUs of phones require.
        if self.position == "relative":
            query = ops.reshape(query, (-1, height, width, self._key_dim))
            # Different vectors for each row and each column of the queries.
            by_row = ops.transpose(ops.take(by_row, rows, axis=0), (0, 2, 1))
            by_column = ops.transpose(ops.take(by_column, columns, axis=0), (0, 2, 1))
            by_row = ops.matmul(query, by_row)
            by_column = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), by_column)
            by_column = ops.transpose(by_column, (0, 2, 1, 3))
        else:
            query = ops.reshape(query, (-1, self._key_dim))
            by_row = ops.matmul(query, ops.transpose(by_row))
            by_column = ops.matmul(query, ops.transpose(by_column))
        positions = height * width
        scores = ops.reshape(by_row, (-1, positions, height, 1)) + ops.reshape(
            by_column, (-1, positions, 1, width)
        )
        return ops.reshape(scores, (-1, self.num_heads, positions, positions))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        dim = self.value_dim or channels_of(input_shape, self) // self.num_heads
        return (*input_shape[:-1], self.output_dim or self.num_heads * dim)

    def scores_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, _ = input_shape
        return (batch, self.num_heads, height, width, height, width)

    def load_own_variables(self, store: Any) -> None:
        """Loads position terms of any size, interpolated linearly to the size of this layer."""
        for key, variable in enumerate(self.tables):
            variable.assign(_resize(np.asarray(store[str(key)]), variable.shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "position": self.position,
            "use_bias": self.use_bias,
            "output_dim": self.output_dim,
            "dropout": self.dropout,
        }


def _distances(side: int) -> np.ndarray:
    """Indices of `key - query` in a table that begins at `1 - side`; shape `(query, key)`."""
    positions = np.arange(side)
    return positions - positions[:, None] + side - 1


def _resize(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolates all but the last axis of `table` linearly to `shape`; ends stay ends."""
    for axis, size in enumerate(shape[:-1]):
        at = np.linspace(0, table.shape[axis] - 1, size)
        low = np.minimum(at.astype(int), max(table.shape[axis] - 2, 0))
        high = np.minimum(low + 1, table.shape[axis] - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(table.ndim)])
        table = np.take(table, low, axis) * (1 - share) + np.take(table, high, axis) * share
    return table
