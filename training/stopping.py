"""Ends of a run before its time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStopped(Exception):  # noqa: N818  # as often asked for as not
    """A run that has ended before its last epoch, for a reason that the message names.

    Attributes:
        exit_code: of the process, if it is to end for it.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class StopRequest:
    """What the process has been asked for: SIGTERM, SIGINT, or nothing as yet."""

    received: signal.Signals | None = None


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notes the first signal that asks the process to end; a second one ends it at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python gives signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        request.received = signal.Signals(number)
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
