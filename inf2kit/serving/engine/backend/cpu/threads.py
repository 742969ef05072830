"""How many threads a decode step computes with: all of them, or one while other processes take the cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

#: Steps that one thread computes before all of them try again.
_STEPS_ALONE = 20


class StepThreads:
    """Sets the number of torch's threads for decode steps, from what they have waited.

    The threads of a step wait for each other hundreds of times. Where another process has the core of one of
    them, each time may take as long as the whole step does on a machine of its own; one thread waits for
    nobody. The number of threads does not change a bit of the logits.

    Args:
        threads: The number of threads where the cores are free.
        now: Seconds that pass.
        processor: Seconds that this thread has computed.
    """

    def __init__(
        self,
        threads: int,
        now: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._threads = threads
        self._now, self._processor = now, processor
        self._steps_alone = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch a step; if its thread waited for more than half of it, one thread computes the next ones."""
        began, computed = self._now(), self._processor()
        yield
        if self._steps_alone:
            self._steps_alone -= 1
            if not self._steps_alone:
                torch.set_num_threads(self._threads)
        elif self._threads > 1 and self._processor() - computed < (self._now() - began) / 2:
            self._steps_alone = _STEPS_ALONE
            torch.set_num_threads(1)
