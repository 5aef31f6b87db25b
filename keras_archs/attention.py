"""The `attention` argument of all builders: blocks behind the last map of a resolution."""

from collections.abc import Mapping
from typing import Any

import keras

from .errors import InputError, did_you_mean
from .features import feature_info
from .layers import CBAM, ECA, GlobalContext, NonLocalBlock, SqueezeExcite
from .surgery import insert

BLOCKS: dict[str, type[keras.layers.Layer]] = {
    "se": SqueezeExcite,
    "eca": ECA,
    "cbam": CBAM,
    "gc": GlobalContext,
    "non_local": NonLocalBlock,
}


def check_attention(attention: Any) -> None:
    """Raises a ValueError that names what is no block."""
    blocks = attention if isinstance(attention, Mapping) else {0: attention}
    for level, block in blocks.items():
        if isinstance(level, bool) or not isinstance(level, int):
            raise InputError(f"attention must map levels (integers) to blocks, got {level!r}.")
        if isinstance(block, str) and block not in BLOCKS:
            raise InputError(
                f"attention={block!r} is no block.{did_you_mean(block, BLOCKS)} Allowed are"
                f" {', '.join(map(repr, BLOCKS))}, a layer, or a dict from levels to these."
            )
        if block is not None and not isinstance(block, str | keras.layers.Layer):
            raise InputError(f"attention must be a name, a layer or a dict, got {block!r}.")


def attend(model: keras.Model, attention: Any) -> keras.Model:
    """`model` with the blocks that `check_attention` let pass, or itself without any.

    Raises:
        ValueError: the model has no map of one of the levels.
    """
    if attention is None:
        return model
    if not isinstance(attention, Mapping):
        attention = {feature.level: attention for feature in feature_info(model)}
    for level, block in sorted(attention.items()):
        if block is not None:
            layer = BLOCKS[block]() if isinstance(block, str) else block
            model = insert(model, layer, after=level)
    return model
