"""Which engine gets a call: the least loaded one with room, in the order of arrival; never a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from inf2kit.errors import RequestError
from inf2kit.serving.gateway.crashes import prompts_of
from inf2kit.serving.gateway.routing import Engine, Router
from inf2kit.serving.settings import Settings
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.supervision.heartbeat import Heartbeat
from inf2kit.serving.wire import GenerateRequest

#: Each engine has two rows and a queue of two, and two turns.
SETTINGS = Settings(
    model_dir=Path("model"),
    run_dir=Path("run"),
    backend="simulated",
    model_name="x",
    dtype="float32",
    shapes=StaticShapes.resolve(2, 64),
    queue_size=2,
    prefills_per_step=1,
    deadline_s=5.0,
    gateway_address="127.0.0.1:1",
    model_server_address="",
    model_server_workers=6,
    notice=None,
    stall_s=None,
    torch_threads=None,
    simulated={},
    engines=3,
)
Prompts = tuple[bytes, ...]


def prompts(*texts: str) -> Prompts:
    return prompts_of(GenerateRequest(form="tgi", prompts=texts))


class Calls:
    """Calls of a router whose engines are ready."""

    def __init__(self, engines: int = 3, queue_size: int = 2) -> None:
        settings = replace(SETTINGS, engines=engines, model_server_workers=2 * engines, queue_size=queue_size)
        self.router = Router(settings, [Heartbeat.create() for _ in range(engines)])
        for engine in self.router.engines:
            self.router.report(engine, "ready")

    def begin(self, text: str = "x", texts: int = 1) -> asyncio.Future[Engine]:
        return self.router.wait_for_turn(texts, prompts(text))

    def end(
        self, call: asyncio.Future[Engine], text: str = "x", texts: int = 1, *, failed: bool = False
    ) -> None:
        self.router.end_turn(call.result(), texts, prompts(text), failed=failed)

    def crash(self, number: int) -> None:
        self.router.report(self.router.engines[number], "down")

    def restart(self, number: int) -> None:
        for state in ("loading", "ready"):
            self.router.report(self.router.engines[number], state)


def in_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test's body in an event loop."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def numbers(calls: list[asyncio.Future[Engine]]) -> list[int | None]:
    """The engine of each call; None while it waits."""
    return [call.result().number if call.done() else None for call in calls]


def refusal(call: asyncio.Future[Engine]) -> tuple[int, str]:
    error = call.exception()
    assert isinstance(error, RequestError)
    return error.status, error.code


@in_a_loop
async def test_the_least_loaded_engine_is_next_and_equal_ones_take_turns() -> None:
    calls = Calls()
    assert numbers([calls.begin() for _ in range(3)]) == [0, 1, 2]
    list_of_two = calls.begin(texts=2)
    assert numbers([list_of_two]) == [0], "the first that is free for longest"
    assert numbers([calls.begin(), calls.begin()]) == [1, 2], "an engine with a list has more to do"


@in_a_loop
async def test_an_engine_has_no_more_calls_than_turns_and_waiting_ones_keep_their_order() -> None:
    calls = Calls()
    running = [calls.begin(f"{index}") for index in range(6)]
    first, second, third = (calls.begin(text) for text in ("a", "b", "c"))
    assert numbers([first, second, third]) == [None, None, None]
    calls.router.leave(second)
    calls.end(running[4], "4")
    assert numbers([first]) == [1]
    assert not third.done()
    calls.end(running[2], "2")
    assert numbers([third]) == [2]


@in_a_loop
async def test_what_an_engine_has_no_room_for_waits_and_lets_others_pass() -> None:
    """Each engine holds four texts, and lists at most half of them."""
    calls = Calls(engines=1)
    first = calls.begin(texts=3)
    second, single = calls.begin(texts=3), calls.begin()
    assert numbers([first, second, single]) == [0, None, 0]
    calls.end(first, texts=3)
    assert numbers([second]) == [0]


@in_a_loop
async def test_a_dead_engine_gets_nothing_and_what_waits_goes_to_another() -> None:
    calls = Calls(engines=2)
    assert calls.router.admission.capacity == 8
    running = [calls.begin(f"{index}") for index in range(4)]
    waiting = calls.begin("waits")
    calls.crash(0)
    assert (calls.router.admission.capacity, calls.router.rows, calls.router.state) == (4, 2, "ready")
    for call in (running[0], running[2]):
        calls.end(call, "0", failed=True)
    assert numbers([waiting]) == [None], "the other one has two"
    calls.end(running[1], "1")
    assert numbers([waiting]) == [1]
    calls.restart(0)
    assert numbers([calls.begin("y")]) == [0]
    assert calls.router.admission.capacity == 8


@in_a_loop
async def test_nothing_waits_for_engines_that_have_all_ended() -> None:
    calls = Calls(engines=2)
    waiting = [calls.begin() for _ in range(6)][4:]
    calls.crash(0)
    calls.crash(1)
    assert [refusal(call) for call in waiting] == [(503, "unavailable")] * 2
    assert calls.router.state == "down"
    assert refusal(calls.begin()) == (503, "unavailable")


@in_a_loop
async def test_a_stuck_engine_gets_nothing() -> None:
    calls = Calls(engines=2)
    calls.router.engines[0].heartbeat.begin(-1.0)
    assert calls.router.engines[0].state == "stuck"
    assert numbers([calls.begin(), calls.begin(), calls.begin()]) == [1, 1, None]


@in_a_loop
async def test_a_prompt_that_may_have_ended_an_engine_runs_with_one_at_a_time() -> None:
    calls = Calls()
    poison = calls.begin("poison")
    assert numbers([poison]) == [0]
    calls.crash(0)
    calls.end(poison, "poison", failed=True)
    again, twice, other = calls.begin("poison"), calls.begin("poison"), calls.begin("other")
    assert numbers([again, twice, other]) == [1, None, 2]
    calls.crash(1)
    calls.end(again, "poison", failed=True)
    assert refusal(twice) == (422, "crashed_before")
    assert calls.router.engines[2].state == "ready"
    calls.end(other, "other")


@in_a_loop
async def test_a_prompt_that_may_have_ended_an_engine_is_not_sent_to_the_last_one() -> None:
    calls = Calls(engines=2)
    poison, other = calls.begin("poison"), calls.begin("other")
    calls.crash(0)
    calls.end(poison, "poison", failed=True)
    refused = calls.begin("poison")
    assert refusal(refused) == (503, "unavailable")
    assert "the last one" in str(refused.exception())
    calls.end(other, "other")
    assert numbers([calls.begin("other")]) == [1], "it was with the other engine"
    calls.restart(0)
    assert numbers([calls.begin("poison")]) == [0]


@in_a_loop
async def test_the_only_engine_gets_it_again() -> None:
    calls = Calls(engines=1)
    poison = calls.begin("poison")
    calls.crash(0)
    calls.end(poison, "poison", failed=True)
    calls.restart(0)
    assert numbers([calls.begin("poison")]) == [0]


@in_a_loop
async def test_short_lists_do_not_keep_a_long_one_waiting() -> None:
    """Three of them run at any time, so that both engines have one; a long list needs one without."""
    calls = Calls(engines=2, queue_size=6)
    short = [calls.begin(texts=2) for _ in range(3)]
    long, text = calls.begin(texts=8), calls.begin()
    assert numbers([*short, long, text]) == [0, 1, 0, None, 1], "a text passes the list"
    calls.end(text)
    for _ in range(20):
        short.append(calls.begin(texts=2))
        calls.end(next(call for call in short if call.done()), texts=2)
        short.remove(next(call for call in short if call.done()))
    assert long.done()


def test_each_engine_has_a_socket_and_cores_of_its_own() -> None:
    three = replace(SETTINGS, tensor_parallel_size=8)
    assert [three.visible_cores(engine) for engine in range(3)] == ["0-7", "8-15", "16-23"]
    assert [three.socket_path(engine).parent.name for engine in range(3)] == [
        "engine-0",
        "engine-1",
        "engine-2",
    ]
    one = replace(SETTINGS, engines=1)
    assert (one.visible_cores(0), one.socket_path(0)) == ("0", Path("run/engine.sock"))
