"""Ctrl-C, SIGTERM and SIGHUP end a benchmark with all that it has started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from inf2kit.cli import INTERRUPTED_STATUS, signals


@contextmanager
def end_children() -> Iterator[None]:
    """Kill what is left of the processes started inside the context, also those that SIGSTOP has stopped."""
    with signals.exit_on_signals():
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED_STATUS) from None
        finally:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it may end meanwhile
                    child.kill()
