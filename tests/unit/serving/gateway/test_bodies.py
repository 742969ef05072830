"""Request bodies: limited in bytes, in time, and in memory all together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.gateway.bodies import MAX_BODY, Bodies

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


def free_bytes(bodies: Bodies) -> int:
    """The most bytes that the next body may declare, by bisection."""

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
        (Sender(b"x" * COUNTED, b"y" * MAX_BODY), {}, 413),
        (Sender(b"x" * COUNTED, leaves=True), {}, 400),
        (Sender(b"x" * COUNTED, leaves=True), {"content-length": str(2 * COUNTED)}, 400),
        (Sender(b"x"), {"content-length": "9" * 18}, 200),
        (Sender(b"x"), {"content-length": "-5"}, 200),
        (Sender(b"x"), {"content-length": "\u0665"}, 200),
    ],
    ids=["declared", "chunked", "too large", "left", "left early", "lies", "negative", "no number"],
)
def test_the_budget_is_released_however_a_body_ends(
    sender: Sender, headers: dict[str, str], status: int
) -> None:
    bodies = Bodies()
    assert asyncio.run(status_of(bodies, sender, **headers)) == status
    assert free_bytes(bodies) == BUDGET


def test_the_budget_is_released_when_the_call_fails_or_is_cancelled() -> None:
    bodies = Bodies()

    async def fails() -> None:
        async with bodies.read(Sender(b"x" * COUNTED), {}):
            raise LookupError

    async def cancelled(sender: Sender) -> None:
        entered = asyncio.Event()

        async def call() -> None:
            async with bodies.read(sender, {"content-length": str(COUNTED)}):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(call())
        await asyncio.wait({task, asyncio.ensure_future(entered.wait())}, timeout=0.1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    with pytest.raises(LookupError):
        asyncio.run(fails())
    asyncio.run(cancelled(Sender(b"x" * COUNTED, ends=False)))
    asyncio.run(cancelled(Sender(b"x" * COUNTED)))
    assert free_bytes(bodies) == BUDGET


def test_a_body_that_does_not_come_is_refused_in_time_and_counts_no_more() -> None:
    bodies = Bodies()
    assert asyncio.run(status_of(bodies, Sender(b"x", ends=False), **{"content-length": "1000000"})) == 408
    assert free_bytes(bodies) == BUDGET


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
    assert free_bytes(bodies) == BUDGET


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
