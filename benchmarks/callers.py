"""Callers in a closed loop: each sends its next request when its last one is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Load:
    """The result of a number of callers.

    Attributes:
        seconds: Time from the first call to the last answer.
        tokens: New tokens of all answers.
        latencies: Seconds of each answered call.
        failures: Errors of the other calls.
    """

    seconds: float = 0.0
    tokens: int = 0
    latencies: list[float] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second; prompt tokens are not counted."""
        return self.tokens / self.seconds

    def percentile(self, share: float) -> float:
        """Return the seconds within which this share of the answered calls was answered."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def _pause_s(error: Exception) -> float:
    """Seconds after which a refused caller tries again, as the answer says."""
    try:
        answer = json.loads(error.response["OriginalMessage"])  # type: ignore[attr-defined]
        return float(answer["retry_after_s"])
    except (AttributeError, KeyError, ValueError, TypeError):
        return 0.2


def run(callers: int, calls: Iterator[Callable[[], int]], *, for_s: float | None = None) -> Load:
    """Make calls with a number of callers at a time.

    Args:
        callers: Number of threads.
        calls: Functions that make a call and return its new tokens; taken one by one, in order.
        for_s: Seconds after which no call begins; None makes all calls.
    """
    load, lock = Load(), threading.Lock()
    began = time.perf_counter()

    def work() -> None:
        while True:
            with lock:
                call = next(calls, None) if not for_s or time.perf_counter() - began < for_s else None
            if call is None:
                return
            sent = time.perf_counter()
            try:
                tokens = call()
            except Exception as error:
                with lock:
                    load.failures.append(error)
                time.sleep(_pause_s(error))
                continue
            with lock:
                load.tokens += tokens
                load.latencies.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - began
    return load
