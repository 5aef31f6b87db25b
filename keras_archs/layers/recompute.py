"""Lets a stage be computed twice: state changes once, and random numbers are drawn once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class _Run:
    """One computation of a stage.

    Attributes:
        again: whether this is the second computation with the same input.
        drawn: random numbers of the first computation, in order.
        used: how many of them this computation has used.
    """

    again: bool
    drawn: list[Any]
    used: int = 0


_run: ContextVar[_Run | None] = ContextVar("run", default=None)


@contextmanager
def recomputation(again: bool, drawn: list[Any]) -> Iterator[None]:
    """Marks the block as a computation that may be repeated, or that is repeated if `again`."""
    token = _run.set(_Run(again, drawn))
    try:
        yield
    finally:
        _run.reset(token)


def recomputing() -> bool:
    """Whether this is the second computation, which must not change any state."""
    run = _run.get()
    return run is not None and run.again


def draw_once(draw: Callable[[], Any]) -> Any:
    """`draw()`, or its result of the first computation if this is the second."""
    run = _run.get()
    if run is None:
        return draw()
    if not run.again:
        run.drawn.append(draw())
    run.used += 1
    return run.drawn[run.used - 1]
