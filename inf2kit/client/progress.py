"""How far a batch is, and a line about it on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError

#: Seconds between two lines: on a terminal they replace each other, elsewhere they add up.
_TERMINAL_S, _LOG_S = 0.5, 10.0


@dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes:
        done: Number of prompts with a result or an error.
        total: Number of prompts; None if it is not known.
        failed: Number of prompts with an error.
        generated_tokens: Number of new tokens so far.
        elapsed_s: Seconds since the batch began.
    """

    done: int
    total: int | None
    failed: int
    generated_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """New tokens per second so far."""
        return self.generated_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at the same pace; None if that cannot be said."""
        if self.total is None or not self.done:
            return None
        return self.elapsed_s / self.done * (self.total - self.done)

    def __str__(self) -> str:
        """Return one line."""
        total = "" if self.total is None else f"/{self.total}"
        line = f"{self.done}{total} done, {self.failed} failed, {self.tokens_per_s:.0f} tokens/s"
        left_s = self.left_s
        return line if left_s is None else f"{line}, {_duration(left_s)} left"


class Counter:
    """Counts the results of a batch, and reports each of them.

    Args:
        total: Number of prompts, if it is known.
        report: Called after each prompt; None reports nothing, True prints to the standard error.
    """

    def __init__(self, total: int | None, report: Callable[[Progress], None] | bool | None) -> None:
        self._total = total
        self._report = Printer(sys.stderr) if report is True else (report or None)
        self._began = time.monotonic()
        self._done = self._failed = self._tokens = 0

    def add(self, value: TextResult | EndpointError) -> None:
        """Count one prompt."""
        self._done += 1
        if isinstance(value, TextResult):
            self._tokens += value.generated_tokens
        else:
            self._failed += 1
        if self._report is not None:
            self._report(self.progress())

    def progress(self) -> Progress:
        """Return how far the batch is."""
        elapsed_s = time.monotonic() - self._began
        return Progress(self._done, self._total, self._failed, self._tokens, elapsed_s)


class Printer:
    """Prints progress now and then, and when the last prompt is done.

    Args:
        stream: Where to print.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._next_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Print a line if it is time for one."""
        now, is_last = time.monotonic(), progress.done == progress.total
        if now < self._next_at and not is_last:
            return
        self._next_at = now + (_TERMINAL_S if self._is_terminal else _LOG_S)
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{progress}" + ("\n" if is_last else ""))
        else:
            self._stream.write(f"{progress}\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
