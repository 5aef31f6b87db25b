"""Channel counts that hardware likes."""


def make_divisible(value: float, divisor: int = 8, round_limit: float = 0.9) -> int:
    """The multiple of `divisor` nearest to `value`, but never below `round_limit` of it.

    Source: the authors' code of MobileNetV2, V3 and EfficientNet. The papers do not mention it.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= round_limit * value else rounded + divisor
