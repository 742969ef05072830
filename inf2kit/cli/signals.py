"""End a command by signals as by Ctrl-C: what it has started is stopped first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from inf2kit.cli import end_process

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise SystemExit, with the status that a shell shows, on SIGTERM and SIGHUP in the main thread.

    A second one is ignored while the first one is being obeyed. What ``nohup`` ignores stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] is signal.SIG_DFL:
            signal.signal(number, _exit)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, where it would end the process at once."""
    if signal.getsignal(signal.SIGINT) is not end_process:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, end_process)


class Interrupts:
    """Raises KeyboardInterrupt on Ctrl-C, but never while something is printed.

    An interrupted write may have written its bytes already, and the buffer would write them again.
    """

    def __init__(self) -> None:
        self._is_held = self._came = False
        self._before: object = None

    def __enter__(self) -> Interrupts:
        """Begin to handle Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Handle Ctrl-C as before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put Ctrl-C off to the end of the block.

        Raises:
            KeyboardInterrupt: it came meanwhile.
        """
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_held:
            self._came = True
        else:
            raise KeyboardInterrupt


def _exit(number: int, _: FrameType | None) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)
