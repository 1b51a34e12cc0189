"""Ctrl-C and SIGTERM: the photo in hand is finished first; the files of all photos, which come last, are not."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """A command that a signal ended early. The message says what is complete.

    Attributes:
        exit_code: 128 plus the number of the signal, as shells have it.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


def finishing_photos() -> AbstractContextManager[Callable[[], int | None]]:
    """:func:`finishing_work` for a command that goes from photo to photo."""
    return finishing_work("the photo in hand")


@contextmanager
def finishing_work(what: str) -> Iterator[Callable[[], int | None]]:
    """Within this context the first SIGINT or SIGTERM only sets a mark; a second one ends the process at once.

    Yields a function that returns the number of the signal that came, or None. Signals that the process ignores
    (``nohup``) stay ignored. Outside the main thread nothing is changed, since Python allows no handlers there.

    Args:
        what: is finished, for the message.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]

    def mark(number: int, frame: Any) -> None:
        received.append(number)
        for other in handled:
            # The system ends the process itself, even where Python is waiting for compiled code.
            signal.signal(other, signal.SIG_DFL)
        # Progress bars hide the cursor; after a second signal nobody could show it again.
        shown = "\x1b[?25h" if sys.stderr.isatty() else ""
        print(f"{shown}ssimpert: finishing {what}; a second signal stops at once", file=sys.stderr)

    for number in handled:
        signal.signal(number, mark)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in handled:
            signal.signal(number, before[number])


@contextmanager
def stopping_at_once(message: str) -> Iterator[None]:
    """Within this context SIGINT and SIGTERM end the command at once, with ``message``.

    Signals that the process ignores stay ignored. Outside the main thread nothing is changed.

    Raises:
        Stopped: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]

    def stop(number: int, frame: Any) -> None:
        raise _Signal(number)

    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    except _Signal as received:
        raise Stopped(received.number, message) from None
    finally:
        for number in handled:
            signal.signal(number, before[number])


class _Signal(BaseException):
    """Not an ``Exception``, so that no library takes the signal for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
