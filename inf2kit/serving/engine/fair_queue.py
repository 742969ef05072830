"""The jobs that wait for a row. Turns go round between calls, so a long list of texts keeps nobody out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inf2kit.serving.engine.sequence import Job


@dataclass
class _Turns:
    """The waiting jobs of one call, and when it last had a turn: at first, when it arrived."""

    jobs: deque[Job]
    last: float


class Waiting:
    """Jobs in the order of their turns: the call whose last turn is longest ago comes next."""

    def __init__(self) -> None:
        self._calls: list[_Turns] = []

    def __len__(self) -> int:
        return sum(len(call.jobs) for call in self._calls)

    def __iter__(self) -> Iterator[Job]:
        return (job for call in self._calls for job in call.jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """The jobs of one call."""
        if jobs:
            self._calls.append(_Turns(deque(jobs), jobs[0].arrival))

    def take(self) -> Job | None:
        """The next job, which waits no longer; None where none waits."""
        if not self._calls:
            return None
        call = min(self._calls, key=lambda call: call.last)
        job = call.jobs.popleft()
        call.last = time.monotonic()
        self._calls = [call for call in self._calls if call.jobs]
        return job

    def take_ended(self, now: float) -> list[Job]:
        """Every job that was cancelled or whose deadline has come, which wait no longer."""
        ended = [job for job in self if job.cancelled or now >= job.deadline]
        if ended:
            leaving = set(map(id, ended))
            for call in self._calls:
                call.jobs = deque(job for job in call.jobs if id(job) not in leaving)
            self._calls = [call for call in self._calls if call.jobs]
        return ended
