"""Random calls, ends and faults of engines: the router counts what is there, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings as test_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inf2kit.errors import RequestError
from inf2kit.serving.gateway.routing import Engine, Router
from inf2kit.serving.supervision.heartbeat import Heartbeat
from tests.unit.serving.gateway.test_routing import SETTINGS, Prompts, prompts

WORDS = "abcdef"


@dataclass(eq=False)
class Call:
    """A call that has been admitted and has no answer yet."""

    texts: int
    prompts: Prompts
    turn: asyncio.Future[Engine]

    @property
    def engine(self) -> Engine | None:
        """The engine that it has a turn with."""
        return self.turn.result() if self.turn.done() else None


class RouterMachine(RuleBasedStateMachine):
    """The model is a list of calls: those with an engine, and those that wait."""

    @initialize(
        engines=st.integers(1, 3), turns=st.integers(1, 4), rows=st.integers(1, 4), queue=st.integers(0, 4)
    )
    def begin(self, engines: int, turns: int, rows: int, queue: int) -> None:
        settings = replace(
            SETTINGS,
            engines=engines,
            model_server_workers=turns * engines,
            queue_size=queue,
            shapes=replace(SETTINGS.shapes, batch_size=rows),
        )
        self.loop = asyncio.new_event_loop()
        self.turns, self.most_texts = turns, settings.max_prompts
        self.heartbeats = [Heartbeat.create() for _ in range(engines)]
        self.router = Router(settings, self.heartbeats)
        self.calls: list[Call] = []

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()

    def in_loop(self, action: Callable[[], Any]) -> Any:
        """Do something as a task of the gateway would; calls that are refused then are over."""

        async def run() -> Any:
            return action()

        result = self.loop.run_until_complete(run())
        for call in [call for call in self.calls if call.turn.done() and call.turn.exception()]:
            self.calls.remove(call)
            self.router.admission.release(call.texts)
        return result

    def end_call(self, call: Call, *, failed: bool) -> None:
        self.calls.remove(call)
        engine = call.turn.result()
        self.in_loop(lambda: self.router.end_turn(engine, call.texts, call.prompts, failed=failed))
        self.router.admission.release(call.texts)

    @rule(texts=st.integers(1, 8), word=st.sampled_from(WORDS))
    def arrive(self, texts: int, word: str) -> None:
        texts = min(texts, self.most_texts)
        try:
            self.router.crashes.check(prompts(word))
            self.router.admission.admit(texts)
        except RequestError:
            return
        turn = self.in_loop(lambda: self.router.wait_for_turn(texts, prompts(word)))
        if turn.done() and turn.exception():
            self.router.admission.release(texts)
        else:
            self.calls.append(Call(texts, prompts(word), turn))

    @precondition(lambda self: any(call.engine for call in self.calls))
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:
        running = [call for call in self.calls if call.engine]
        self.end_call(data.draw(st.sampled_from(running)), failed=failed)

    @precondition(lambda self: any(not call.engine for call in self.calls))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if not call.engine]))
        self.calls.remove(call)
        self.in_loop(lambda: self.router.leave(call.turn))
        self.router.admission.release(call.texts)

    @rule(data=st.data(), state=st.sampled_from(["down", "loading", "ready"]))
    def report(self, data: st.DataObject, state: str) -> None:
        engine = data.draw(st.sampled_from(self.router.engines))
        self.in_loop(lambda: self.router.report(engine, state))
        if state != "ready":
            for call in [call for call in self.calls if call.engine is engine]:
                self.end_call(call, failed=True)

    @rule(data=st.data(), stuck=st.booleans())
    def stick(self, data: st.DataObject, stuck: bool) -> None:
        number = data.draw(st.sampled_from(range(len(self.heartbeats))))
        self.heartbeats[number].begin(-1.0 if stuck else 1000.0)

    @precondition(lambda self: hasattr(self, "router"))
    @invariant()
    def counts_are_those_of_the_calls(self) -> None:
        for engine in self.router.engines:
            its_calls = [call for call in self.calls if call.engine is engine]
            assert engine.calls == len(its_calls) <= self.turns
            assert engine.admission.texts == sum(call.texts for call in its_calls)
            assert engine.admission.further_texts == sum(call.texts - 1 for call in its_calls)
        assert self.router.admission.texts == sum(call.texts for call in self.calls)
        running = [prompt for call in self.calls if call.engine for prompt in call.prompts]
        assert all(
            self.router.crashes.is_running(prompts(word)) == (prompts(word)[0] in running) for word in WORDS
        )

    @precondition(lambda self: hasattr(self, "router"))
    @invariant()
    def who_waits_is_known_in_the_order_of_arrival(self) -> None:
        waiting = [call.turn for call in self.calls if not call.engine]
        assert [each.turn for each in self.router._waiting] == waiting

    @precondition(lambda self: hasattr(self, "router"))
    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        is_stuck = any(heartbeat.stalled for heartbeat in self.heartbeats)
        if self.calls and self.router.serving and not is_stuck:
            assert any(call.engine for call in self.calls)


RouterMachine.TestCase.settings = test_settings(max_examples=40, stateful_step_count=40, deadline=None)
test_random_states = RouterMachine.TestCase
