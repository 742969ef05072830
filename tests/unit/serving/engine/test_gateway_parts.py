"""The parts that gateway and engine are made of: bodies, places, turns, crashes, heartbeats."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine import bodies as bodies_module
from inf2kit.serving.engine.admission import Admission
from inf2kit.serving.engine.bodies import Bodies
from inf2kit.serving.engine.crashes import Crashes
from inf2kit.serving.engine.fair_queue import Waiting
from inf2kit.serving.engine.heartbeat import ENGINE, Heartbeat
from inf2kit.serving.engine.sequence import Job
from inf2kit.serving.wire import GenerateRequest, Parameters

BUDGET = 64 * 1024 * 1024
#: A body that counts.
COUNTED = 1024 * 1024


class Sender:
    """A caller's side of one request, as an ASGI server gives it."""

    def __init__(self, *parts: bytes, ends: bool = True, leaves: bool = False) -> None:
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if leaves:
            self.messages.append({"type": "http.disconnect"})
        elif ends:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def __call__(self) -> dict[str, Any]:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def free(bodies: Bodies) -> int:
    """Bytes that the next body may have, found by asking for them: nothing is read for it."""

    async def fits(size: int) -> bool:
        try:
            async with bodies.read(Sender(), {"content-length": str(size)}):
                return True
        except RequestError as error:
            assert error.status == 429
            return False

    async def search() -> int:
        low, high = 64 * 1024, BUDGET + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if await fits(middle) else (low, middle)
        return low

    before, bodies.limit = bodies.limit, BUDGET + 1
    try:
        return asyncio.run(search())
    finally:
        bodies.limit = before


async def status_of(bodies: Bodies, sender: Sender, **headers: str) -> int:
    try:
        async with bodies.read(sender, headers):
            return 200
    except RequestError as error:
        return error.status


@pytest.mark.parametrize(
    ("sender", "headers", "status"),
    [
        (Sender(b"x" * COUNTED), {"content-length": str(COUNTED)}, 200),
        (Sender(b"x" * COUNTED, b"y" * COUNTED), {}, 200),
        (Sender(b"x" * COUNTED, b"y" * 6 * COUNTED), {}, 413),
        (Sender(b"x" * COUNTED, leaves=True), {}, 400),
        (Sender(b"x" * COUNTED, leaves=True), {"content-length": str(2 * COUNTED)}, 400),
        (Sender(b"x"), {"content-length": "9" * 18}, 200),
        (Sender(b"x"), {"content-length": "-5"}, 200),
        (Sender(b"x"), {"content-length": "\u0665"}, 200),
    ],
    ids=["declared", "chunked", "too large", "left", "left early", "lies", "negative", "no number"],
)
def test_the_budget_is_given_back_however_a_body_ends(
    sender: Sender, headers: dict[str, str], status: int
) -> None:
    bodies = Bodies()
    assert asyncio.run(status_of(bodies, sender, **headers)) == status
    assert free(bodies) == BUDGET


def test_the_budget_is_given_back_when_the_call_fails_or_is_cancelled() -> None:
    bodies = Bodies()

    async def fails() -> None:
        async with bodies.read(Sender(b"x" * COUNTED), {}):
            raise LookupError

    async def cancelled(sender: Sender) -> None:
        inside = asyncio.Event()

        async def call() -> None:
            async with bodies.read(sender, {"content-length": str(COUNTED)}):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(call())
        await asyncio.wait({task, asyncio.ensure_future(inside.wait())}, timeout=0.1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    with pytest.raises(LookupError):
        asyncio.run(fails())
    asyncio.run(cancelled(Sender(b"x" * COUNTED, ends=False)))
    asyncio.run(cancelled(Sender(b"x" * COUNTED)))
    assert free(bodies) == BUDGET


def test_a_body_that_does_not_come_is_refused_in_time_and_counts_no_more() -> None:
    bodies = Bodies()
    began = time.monotonic()
    assert asyncio.run(status_of(bodies, Sender(b"x", ends=False), **{"content-length": "1000000"})) == 408
    assert time.monotonic() - began < bodies_module._BODY_S + 5
    assert free(bodies) == BUDGET


def test_bodies_count_together_and_a_small_one_always_comes_in() -> None:
    bodies = Bodies()
    size = 6 * COUNTED

    async def fill(left: int) -> None:
        if left:
            async with bodies.read(Sender(b"x" * size), {}):
                await fill(left - 1)
        else:
            assert await status_of(bodies, Sender(b"x" * size)) == 429
            assert await status_of(bodies, Sender(b"x" * 60_000)) == 200

    run(lambda: fill(BUDGET // size))
    assert free(bodies) == BUDGET


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (json.dumps({"inputs": 'word \\ " \u0436 ' * 30_000}), None),
        (json.dumps({"inputs": ["\\" * 100_000, '"' * 100_000]}), None),
        (json.dumps({"inputs": "x", "junk": [{}] * 200_000}), 422),
        (json.dumps({"inputs": "x", "junk": [""] * 200_000}), 422),
        ('{"inputs": "\\\\", "junk": [' + "{}," * 200_000 + '{}], "end": "\\\\"}', 422),
        ('{"inputs": "' + "x" * 300_000, 400),
    ],
    ids=["text", "quotes", "objects", "empty texts", "objects between backslashes", "no JSON"],
)
def test_a_large_body_is_texts_for_the_most_part(text: str, status: int | None) -> None:
    async def parse() -> object:
        return await Bodies().parse(bytearray(text.encode()), "application/json")

    if status is None:
        assert asyncio.run(parse()) == json.loads(text)
        return
    with pytest.raises(RequestError) as caught:
        asyncio.run(parse())
    assert caught.value.status == status


def test_places_come_back_in_every_order() -> None:
    """A list takes places for half of them at most, and gives them back text by text or all at once."""
    admission = Admission(10)
    admission.enter(10)
    for _ in range(5):
        admission.enter(1)
    with pytest.raises(RequestError, match=r"15 prompts are running or waiting .* holds 10") as caught:
        admission.enter(1, retry_after_s=7)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "queue_full", 7)
    for left in range(9, 4, -1):
        admission.leave(left + 1, left)  # the first five have no place of their own
        with pytest.raises(RequestError):
            admission.enter(1)
    admission.leave(5, 4)
    admission.enter(1)
    admission.leave(4)
    for _ in range(6):
        admission.leave(1)
    assert admission.texts == 0
    for _ in range(10):
        admission.enter(1)


def test_lists_have_half_of_the_places_together() -> None:
    """Two lists that fill the endpoint twice would keep everybody else out."""
    admission = Admission(12)
    admission.enter(12)
    with pytest.raises(RequestError):
        admission.enter(2)
    for _ in range(6):
        admission.enter(1)
    with pytest.raises(RequestError):
        admission.enter(1)
    admission.leave(12)
    for _ in range(2):
        admission.enter(3)
    with pytest.raises(RequestError):
        admission.enter(3)
    admission.leave(3)
    admission.enter(3)


def test_one_place_takes_one_text_and_a_call_that_is_in_changes_places() -> None:
    admission = Admission(1)
    admission.enter(1)
    with pytest.raises(RequestError):
        admission.enter(1)
    admission.enter(1, always=True)
    admission.leave(1)
    with pytest.raises(RequestError):
        admission.enter(1)
    admission.leave(1)
    admission.enter(1)


def jobs(arrival: float, count: int = 1, deadline: float = 1e9) -> list[Job]:
    def nothing(*_: object) -> None:
        pass

    return [
        Job([1], Parameters(), 1, deadline, nothing, nothing, nothing, arrival=arrival) for _ in range(count)
    ]


def test_turns_go_round_between_calls() -> None:
    waiting, now = Waiting(), time.monotonic()
    long, short, other = jobs(now - 3, 4), jobs(now - 2, 2), jobs(now - 1)
    for each in (other, long, short):  # in no order
        waiting.add(each)
    assert [waiting.take() for _ in range(3)] == [long[0], short[0], other[0]]
    late = jobs(time.monotonic())
    waiting.add(late)
    assert [waiting.take() for _ in range(4)] == [long[1], short[1], late[0], long[2]]
    assert len(waiting) == 1


def test_a_long_list_has_its_turns_though_others_never_stop_coming() -> None:
    waiting, began = Waiting(), time.monotonic()
    long = jobs(began, 50)
    waiting.add(long)
    taken = []
    for _ in range(200):
        waiting.add(jobs(time.monotonic()))
        waiting.add(jobs(time.monotonic()))
        taken += [waiting.take(), waiting.take(), waiting.take()]
    assert [job for job in taken if job in long] == long, "all of them, in their order"


def test_jobs_that_have_ended_leave_from_every_place() -> None:
    waiting = Waiting()
    first, second = jobs(1.0, 3), jobs(2.0, 2, deadline=10.0)
    waiting.add(first)
    waiting.add(second)
    waiting.add([])
    first[1].cancelled = True
    assert waiting.take_ended(9.9) == [first[1]]
    assert waiting.take_ended(10.0) == second
    assert waiting.take_ended(10.0) == []
    assert [*waiting] == [first[0], first[2]]
    assert [waiting.take(), waiting.take(), waiting.take()] == [first[0], first[2], None]


def prompt(*texts: str) -> GenerateRequest:
    return GenerateRequest(form="tgi", prompts=texts)


def refused(crashes: Crashes, request: GenerateRequest) -> bool:
    try:
        crashes.leave(crashes.enter(request), failed=False)
    except RequestError as error:
        assert (error.status, error.code) == (422, "crashed_before")
        return True
    return False


def test_a_prompt_is_refused_after_two_crashes_with_it_inside() -> None:
    crashes = Crashes()
    for _ in range(2):
        assert not refused(crashes, prompt("bad"))
        inside = crashes.enter(prompt("good", "bad", "bad"))
        crashes.crashed()
        crashes.leave(inside, failed=False)
    assert refused(crashes, prompt("bad"))
    assert refused(crashes, prompt("other", "bad"))
    assert refused(crashes, prompt("good")), "nobody can tell which one it was"
    assert not refused(crashes, prompt("other"))
    assert not crashes._inside


def test_a_call_that_had_its_error_first_counts_and_one_that_was_answered_does_not() -> None:
    crashes = Crashes()
    for _ in range(2):
        crashes.leave(crashes.enter(prompt("failed")), failed=True)
        crashes.leave(crashes.enter(prompt("answered")), failed=False)
        crashes.crashed()
        crashes.crashed()  # nothing was inside any more
    assert refused(crashes, prompt("failed"))
    assert not refused(crashes, prompt("answered"))


def test_chats_are_known_by_all_their_messages() -> None:
    def chat(text: str) -> GenerateRequest:
        messages = ({"role": "system", "content": "same"}, {"role": "user", "content": text})
        return GenerateRequest(form="openai", messages=messages)

    crashes = Crashes()
    for _ in range(2):
        inside = crashes.enter(chat("bad"))
        crashes.crashed()
        crashes.leave(inside, failed=True)
    assert refused(crashes, chat("bad"))
    assert not refused(crashes, chat("good"))


def test_a_heartbeat_is_seen_by_other_processes() -> None:
    heartbeat = Heartbeat.create()
    assert not heartbeat.serving
    assert not heartbeat.stalled
    code = (
        "from inf2kit.serving.engine.heartbeat import ENGINE, Heartbeat;"
        "Heartbeat.inherited(ENGINE).begin(0.5)"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, env={ENGINE: str(heartbeat.fd)}, pass_fds=[heartbeat.fd], check=True)
    assert heartbeat.serving
    time.sleep(0.6)
    assert heartbeat.stalled
    heartbeat.beat()
    assert not heartbeat.stalled
    heartbeat.clear()
    time.sleep(0.6)
    assert not heartbeat.stalled, "no process serves, so none is stuck"
    assert heartbeat.silent_s == 0
