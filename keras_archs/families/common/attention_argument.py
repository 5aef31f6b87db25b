"""The `attention` argument of all builders: blocks after the last map of a resolution."""

from collections.abc import Mapping
from typing import Any

import keras

from ...analysis.features import feature_info
from ...arguments import as_int
from ...errors import InputError, did_you_mean, shown
from ...layers import CBAM, ECA, GlobalContext, NonLocalBlock, SqueezeExcite
from ...transforms.insert import insert

BLOCKS: dict[str, type[keras.layers.Layer]] = {
    "se": SqueezeExcite,
    "eca": ECA,
    "cbam": CBAM,
    "gc": GlobalContext,
    "non_local": NonLocalBlock,
}


def check_attention(attention: Any) -> Any:
    """Returns the argument with Python's integers as levels.

    Raises:
        ValueError: a level is not an integer, or a block is unknown; the message names it.
    """
    if not isinstance(attention, Mapping):
        _check_block(attention)
        return attention
    blocks = {}
    for given, block in attention.items():
        level = as_int(given)
        if level is None:
            raise InputError(f"attention must map levels (integers) to blocks, got {shown(given)}.")
        _check_block(block)
        blocks[level] = block
    return blocks


def _check_block(block: Any) -> None:
    if isinstance(block, str) and block not in BLOCKS:
        raise InputError(
            f"attention={block!r} is not a block.{did_you_mean(block, BLOCKS)} Allowed are"
            f" {', '.join(map(repr, BLOCKS))}, a layer, or a dict from levels to these."
        )
    if block is not None and not isinstance(block, str | keras.layers.Layer):
        raise InputError(f"attention must be a name, a layer or a dict, got {shown(block)}.")


def attend(model: keras.Model, attention: Any) -> keras.Model:
    """`model` with the blocks that `check_attention` let pass, or itself without any.

    Raises:
        ValueError: the model has no map of one of the levels.
    """
    if attention is None:
        return model
    levels = [feature.level for feature in feature_info(model)]
    if not isinstance(attention, Mapping):
        attention = dict.fromkeys(levels, attention)
    for level, block in sorted(attention.items()):
        if level not in levels:
            raise InputError(
                f"attention={shown(attention)}: {model.name} has no map of level {level}; allowed"
                f" are {levels}."
            )
        if block is not None:
            layer = BLOCKS[block]() if isinstance(block, str) else block
            model = insert(model, layer, after=level)
    return model
