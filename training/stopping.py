"""Ends of a run before its time."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStopped(Exception):  # noqa: N818  # as often asked for as not
    """A run that has ended before its last epoch, for a reason that the message names.

    Attributes:
        exit_code: of the process, if it is to end for it.
        headline: of the line on stderr that the command line ends with.
    """

    headline = "Stopped"

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class StopRequest:
    """What the process has been asked for: SIGTERM, SIGINT, or nothing as yet."""

    received: signal.Signals | None = None


class _Asked(BaseException):
    """No error, so that nothing on its way takes it for one."""

    def __init__(self, received: signal.Signals) -> None:
        self.received = received


def stopped(received: signal.Signals, folder: Path, where: str) -> TrainingStopped:
    """The end of the run in a folder; `where` it was, and what can be done."""
    message = f"{received.name} has stopped the run in {str(folder)!r} {where}."
    return TrainingStopped(message, exit_code=128 + received)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notes the first signal that asks the process to end; a second one ends it at once."""
    request = StopRequest()

    def note(received: signal.Signals) -> None:
        request.received = received

    with _at_first_signal(note):
        yield request


@contextmanager
def stopping_at_once(folder: Path, where: str) -> Iterator[None]:
    """Ends a run with the first signal that asks the process to end, where no step is to be saved.

    Raises:
        TrainingStopped: it has come.
    """

    def end(received: signal.Signals) -> None:
        raise _Asked(received)

    try:
        with _at_first_signal(end):
            yield
    except _Asked as asked:
        raise stopped(asked.received, folder, where) from None


@contextmanager
def _at_first_signal(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """For a second signal all is as it was before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _: FrameType | None) -> None:
        restore()
        act(signal.Signals(number))

    for number in SIGNALS:
        signal.signal(number, first)
    try:
        yield
    finally:
        restore()
