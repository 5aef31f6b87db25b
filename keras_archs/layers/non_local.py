"""Non-local block: every position attends to all positions."""

from typing import Any

import keras
from keras import ops

from ..arguments import check_choice, check_flag, check_positive_int, if_given
from .block import (
    Block,
    Shape,
    channels_of,
    flatten,
    full_precision,
    register,
)
from .drop_in.batch_norm import BatchNormalization
from .drop_in.dense import Dense

PAIRINGS = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


@register
class NonLocalBlock(Block):
    """Adds to each position a weighted sum over all positions.

    The response is `y_i = sum_j f(x_i, x_j) g(x_j) / C(x)`, followed by a 1x1 convolution and a
    batch norm. The scale of the batch norm starts at zero, so that a new block is the identity.

    Args:
        pairing: the function f. `"gaussian"`: softmax over j of `x_i . x_j`;
            `"embedded_gaussian"`: softmax of `theta(x_i) . phi(x_j)`; `"dot_product"`:
            `theta(x_i) . phi(x_j)` divided by the number of positions; `"concatenation"`:
            `relu(w . [theta(x_i), phi(x_j)])` divided by the number of positions.
        inner_channels: channels of theta, phi and g; half of the input's by default, the paper's
            bottleneck.
        sub_sample: whether keys and values come from the map max-pooled by 2x2. This gives a
            quarter of the pairs and the same output size.
        use_scale: whether the products are divided by the square root of their channels before
            softmax, as in the authors' code; the paper does not divide.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: an argument is out of range, or the input is not a feature map.

    Source: Wang et al. 2018, arXiv:1711.07971, equations 1 to 8 and figure 2; initialisation, and
    pooling before phi and g rather than after, from the authors' code.
    """

    def __init__(
        self,
        pairing: str = "embedded_gaussian",
        inner_channels: int | None = None,
        sub_sample: bool = True,
        use_scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pairing = check_choice("pairing", pairing, PAIRINGS)
        self.inner_channels = if_given(check_positive_int, "inner_channels", inner_channels)
        self.sub_sample = check_flag("sub_sample", sub_sample)
        self.use_scale = check_flag("use_scale", use_scale)
        # Softmax gives a mean of g. The others give a product of three maps, which float16 cannot
        # hold.
        unbounded = self.pairing in {"dot_product", "concatenation"}
        float16 = self.compute_dtype == "float16"
        self._response_dtype = "float32" if unbounded and float16 else self.dtype_policy
        self.norm = self.inner(
            BatchNormalization,
            dtype=self._response_dtype,
            momentum=0.9,
            epsilon=1e-5,
            gamma_initializer="zeros",
            name="norm",
        )

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        inner = self.inner_channels or max(1, channels // 2)
        embedded = self.pairing != "gaussian"
        self.theta = self._embedding(channels, inner, "theta") if embedded else None
        self.phi = self._embedding(channels, inner, "phi") if embedded else None
        self.g = self._embedding(channels, inner, "g")
        if self.pairing == "concatenation":
            # The vector w has two halves. w . [a, b] is the sum of two products, so no tensor of
            # all pairs [a, b] is needed.
            self.pair_theta = self._embedding(inner, 1, "pair_theta", use_bias=False)
            self.pair_phi = self._embedding(inner, 1, "pair_phi", use_bias=False)
        self.project = self._embedding(inner, channels, "project", dtype=self._response_dtype)
        self.norm.build(input_shape)

    def _embedding(self, channels: int, filters: int, name: str, **options: Any) -> Any:
        layer = self.inner(
            Dense,
            filters,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name=name,
            **options,
        )
        layer.build((None, None, None, channels))
        return layer

    def call(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        """Returns the output and, with `return_attention_scores`, f / C.

        The shape of f / C is `(batch, height, width, rows, columns)`, with the rows and columns of
        the pooled map if `sub_sample`.
        """
        keys = inputs
        if self.sub_sample:
            keys = ops.max_pool(inputs, 2, strides=2, padding="same")
        scores = self._scores(inputs, keys)
        response = ops.matmul(scores, full_precision(flatten(self.g(keys))))
        _, height, width, _ = ops.shape(inputs)
        response = ops.reshape(response, (-1, height, width, response.shape[-1]))
        change = self.norm(self.project(response), training=training)
        outputs = inputs + ops.cast(change, inputs.dtype)
        if return_attention_scores:
            _, rows, columns, _ = ops.shape(keys)
            return outputs, ops.reshape(scores, (-1, height, width, rows, columns))
        return outputs

    def scores_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, _ = input_shape
        stride = 2 if self.sub_sample else 1
        keys = [side and -(-side // stride) for side in (height, width)]
        return (batch, height, width, *keys)

    def _scores(self, queries: Any, keys: Any) -> Any:
        """f / C for all pairs, float32 `(batch, queries, keys)`."""
        if self.theta and self.phi:
            queries, keys = self.theta(queries), self.phi(keys)
        if self.pairing == "concatenation":
            left = full_precision(flatten(self.pair_theta(queries)))
            right = full_precision(flatten(self.pair_phi(keys)))
            pairs = ops.relu(left + ops.transpose(right, (0, 2, 1)))
        else:
            left, right = full_precision(flatten(queries)), full_precision(flatten(keys))
            if self.use_scale and self.pairing != "dot_product":
                left *= left.shape[-1] ** -0.5
            pairs = ops.matmul(left, ops.transpose(right, (0, 2, 1)))
        if self.pairing in {"gaussian", "embedded_gaussian"}:
            return ops.softmax(pairs, axis=-1)
        return pairs / ops.cast(ops.shape(pairs)[-1], pairs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pairing": self.pairing,
            "inner_channels": self.inner_channels,
            "sub_sample": self.sub_sample,
            "use_scale": self.use_scale,
        }
