"""Stops a run on SIGTERM or SIGINT."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStopped(Exception):  # noqa: N818  # not an error: users often request it
    """A run stopped before its last epoch. The message gives the reason.

    Attributes:
        exit_code: exit code of the process on the command line.
        headline: first word of the command line's last line on stderr.
    """

    headline = "Stopped"

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class StopRequest:
    """The signal that asks the process to stop: SIGTERM, SIGINT, or None so far."""

    received: signal.Signals | None = None


class _SignalReceived(BaseException):
    """BaseException, so that `except Exception` does not swallow it."""

    def __init__(self, received: signal.Signals) -> None:
        self.received = received


def stopped(received: signal.Signals, folder: Path, where: str) -> TrainingStopped:
    """Returns the exception for a stopped run. `where` is its position, and how to resume."""
    message = f"{received.name} has stopped the run in {str(folder)!r} {where}."
    return TrainingStopped(message, exit_code=128 + received)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Records the first stop signal. A second signal ends the process at once."""
    request = StopRequest()

    def record(received: signal.Signals) -> None:
        request.received = received

    with _at_first_signal(record):
        yield request


@contextmanager
def stop_at_signal(folder: Path, where: str) -> Iterator[None]:
    """Stops a run at the first stop signal, outside of training steps.

    Raises:
        TrainingStopped: a signal was received.
    """

    def end(received: signal.Signals) -> None:
        raise _SignalReceived(received)

    try:
        with _at_first_signal(end):
            yield
    except _SignalReceived as error:
        raise stopped(error.received, folder, where) from None


@contextmanager
def _at_first_signal(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Calls `act` at the first signal. A second signal reaches the original handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    original_handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in original_handlers.items():
            signal.signal(number, handler)

    def handle_first(number: int, _: FrameType | None) -> None:
        restore()
        act(signal.Signals(number))

    for number in SIGNALS:
        signal.signal(number, handle_first)
    try:
        yield
    finally:
        restore()
