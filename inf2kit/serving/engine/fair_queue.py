"""The requests that wait for a row. Calls take turns, so a long list of texts delays no other call."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inf2kit.serving.engine.request import Request


@dataclass
class _Call:
    """The waiting requests of one call.

    Attributes:
        last_turn: Monotonic time of the call's last turn; before the first one, its arrival.
    """

    requests: deque[Request]
    last_turn: float


class FairQueue:
    """A queue in which the call whose last turn was longest ago comes next."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def __len__(self) -> int:
        return sum(len(call.requests) for call in self._calls)

    def __iter__(self) -> Iterator[Request]:
        return (request for call in self._calls for request in call.requests)

    def add(self, requests: Sequence[Request]) -> None:
        """Add the requests of one call."""
        if requests:
            self._calls.append(_Call(deque(requests), requests[0].arrival))

    def pop(self) -> Request | None:
        """Remove and return the next request, or None if the queue is empty."""
        if not self._calls:
            return None
        call = min(self._calls, key=lambda call: call.last_turn)
        request = call.requests.popleft()
        call.last_turn = time.monotonic()
        self._calls = [call for call in self._calls if call.requests]
        return request

    def pop_ended(self, now: float) -> list[Request]:
        """Remove and return every request that was cancelled or whose deadline has come.

        Args:
            now: Monotonic time; ``-math.inf`` for the cancelled ones only.
        """
        ended = [request for request in self if request.cancelled or now >= request.deadline]
        if ended:
            ended_ids = set(map(id, ended))
            for call in self._calls:
                call.requests = deque(request for request in call.requests if id(request) not in ended_ids)
            self._calls = [call for call in self._calls if call.requests]
        return ended
