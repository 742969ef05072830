"""The queue in which calls take turns."""

from __future__ import annotations

import time

from inf2kit.serving.engine.fair_queue import FairQueue
from inf2kit.serving.engine.request import Request
from inf2kit.serving.wire import Parameters


def requests(arrival: float, count: int = 1, deadline: float = 1e9) -> list[Request]:
    def nothing(*_: object) -> None:
        pass

    return [
        Request([1], Parameters(), 1, deadline, nothing, nothing, nothing, arrival=arrival)
        for _ in range(count)
    ]


def test_turns_go_round_between_calls() -> None:
    queue, now = FairQueue(), time.monotonic()
    long, short, other = requests(now - 3, 4), requests(now - 2, 2), requests(now - 1)
    for call in (other, long, short):  # in no order
        queue.add(call)
    assert [queue.pop() for _ in range(3)] == [long[0], short[0], other[0]]
    late = requests(time.monotonic())
    queue.add(late)
    assert [queue.pop() for _ in range(4)] == [long[1], short[1], late[0], long[2]]
    assert len(queue) == 1


def test_a_long_list_has_its_turns_though_others_never_stop_coming() -> None:
    queue, began = FairQueue(), time.monotonic()
    long = requests(began, 50)
    queue.add(long)
    taken = []
    for _ in range(200):
        queue.add(requests(time.monotonic()))
        queue.add(requests(time.monotonic()))
        taken += [queue.pop(), queue.pop(), queue.pop()]
    assert [request for request in taken if request in long] == long, "all of them, in their order"


def test_ended_requests_leave_from_every_place() -> None:
    queue = FairQueue()
    first, second = requests(1.0, 3), requests(2.0, 2, deadline=10.0)
    queue.add(first)
    queue.add(second)
    queue.add([])
    first[1].cancelled = True
    assert queue.pop_ended(9.9) == [first[1]]
    assert queue.pop_ended(10.0) == second
    assert queue.pop_ended(10.0) == []
    assert [*queue] == [first[0], first[2]]
    assert [queue.pop(), queue.pop(), queue.pop()] == [first[0], first[2], None]
