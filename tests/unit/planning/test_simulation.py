"""The simulation against the real scheduler on a clock of its own, and against the closed form."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inf2kit.planning import closed_form
from inf2kit.planning.simulation import Call, Ending, Simulation, chunks_s
from inf2kit.planning.times import EngineModel, ServiceTimes
from inf2kit.serving.engine.backend.base import Backend, PrefillChunk, StepOutput
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

TIMES = ServiceTimes((64, 256, 1024), (0.05, 0.11, 0.5), 0.02, 0.001)
LENGTH = 2048


class ClockBackend(Backend):
    """A double of a device: it computes nothing, and moves a clock by the times of an engine."""

    def __init__(self, engine: EngineModel) -> None:
        super().__init__(StaticShapes.resolve(engine.rows, LENGTH))
        self._times = engine.times
        self.max_prefill_tokens = engine.chunk_tokens
        self.now = 0.0

    def load(self) -> None:
        pass

    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        parts = [(start, len(chunk.ids)) for chunk, start in zip(chunks, starts, strict=True)]
        self.now += chunks_s(self._times, parts)
        return StepOutput(torch.eye(4)[[1] * len(chunks)])

    def _decode(self, rows: Sequence[int], _: Sequence[int], __: Sequence[int]) -> StepOutput:
        self.now += self._times.step(len(rows))
        return StepOutput(torch.eye(4)[[1] * len(rows)])


class Letters(TokenDecoder):
    """A letter per id."""

    def decode(self, ids: Sequence[int]) -> str:
        return "a" * len(ids)


def schedule(engine: EngineModel, calls: Sequence[Call]) -> list[tuple[float, float]]:
    """The times of the first token and of the end of each call, by the real scheduler."""
    backend = ClockBackend(engine)
    scheduler = Scheduler(
        backend,
        Letters(),
        frozenset(),
        queue_size=engine.queue_size,
        prefills_per_step=engine.prefills_per_step,
    )
    first: dict[int, float] = {}
    ends: dict[int, float] = {}

    def ended(index: int) -> None:
        first.setdefault(index, backend.now)
        ends[index] = backend.now

    coming = list(enumerate(calls))
    while coming or scheduler.unfinished:
        if not scheduler.unfinished:
            backend.now = max(backend.now, coming[0][1].arrival)
        while coming and coming[0][1].arrival <= backend.now:
            index, call = coming.pop(0)
            request = Request(
                prompt_ids=[1] * call.input_tokens,
                parameters=Parameters(max_new_tokens=call.new_tokens),
                max_new_tokens=call.new_tokens,
                deadline=math.inf,
                on_token=lambda *_, index=index: first.setdefault(index, backend.now),
                on_end=lambda *_, index=index: ended(index),
                on_error=pytest.fail,
                group=RequestGroup(),
                arrival=call.arrival,
            )
            scheduler.submit([request])
        scheduler.step()
    return [(first[index], ends[index]) for index in range(len(calls))]


engines = st.builds(
    EngineModel,
    times=st.just(TIMES),
    rows=st.integers(1, 5),
    queue_size=st.just(1000),
    prefills_per_step=st.integers(1, 3),
    chunk_tokens=st.sampled_from([None, 100, 256]),
)
gaps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.013, 0.31, 2.7]), st.integers(1, 700), st.integers(1, 60)),
    min_size=1,
    max_size=12,
)


def calls_of(rows: Sequence[tuple[float, int, int]]) -> list[Call]:
    times = itertools.accumulate(gap for gap, _, _ in rows)
    return [Call(at, inputs, new) for at, (_, inputs, new) in zip(times, rows, strict=True)]


@settings(max_examples=40, deadline=None)
@given(engines, gaps)
def test_calls_take_as_long_as_by_the_real_scheduler(
    engine: EngineModel, rows: list[tuple[float, int, int]]
) -> None:
    expected = schedule(engine, calls_of(rows))
    simulated = Simulation(engine).run(calls_of(rows))
    assert [(call.first_at, call.end_at) for call in simulated] == [
        (pytest.approx(first), pytest.approx(end)) for first, end in expected
    ]


def random_calls(rate: float, number: int = 400, seed: int = 0) -> list[Call]:
    generator = random.Random(seed)
    now, calls = 0.0, []
    for _ in range(number):
        now += generator.expovariate(rate)
        calls.append(Call(now, generator.randint(10, 900), generator.randint(1, 200)))
    return calls


@pytest.mark.parametrize("routing", ["least", "round_robin", "random"])
@pytest.mark.parametrize("deadline_s", [math.inf, 8.0])
def test_every_call_ends_once_and_by_its_deadline(routing: str, deadline_s: float) -> None:
    engine = EngineModel(TIMES, 3, 4, deadline_s)
    calls = Simulation(engine, 2, routing=routing, seed=1).run(random_calls(2.5))
    assert len(calls) == 400
    assert not any(call.ending is Ending.RUNNING for call in calls)
    longest_pass_s = TIMES.prefill(900) + TIMES.step(3)
    for call in calls:
        assert call.end_at - call.arrival <= deadline_s + 2 * longest_pass_s
        if call.ending is Ending.ANSWERED:
            assert call.tokens == call.new_tokens
        elif call.ending is Ending.CUT:
            assert 1 <= call.tokens < call.new_tokens
        else:
            assert call.tokens == 0


def test_a_call_is_refused_only_where_rows_and_queue_are_full() -> None:
    engine = EngineModel(TIMES, 2, 3)
    together = [Call(0.0, 100, 50) for _ in range(8)]
    endings = [call.ending for call in Simulation(engine).run(together)]
    assert endings.count(Ending.REFUSED) == 3
    assert endings.count(Ending.ANSWERED) == 5


def test_a_call_that_gets_no_row_by_its_deadline_is_refused_then() -> None:
    engine = EngineModel(TIMES, 1, 5, deadline_s=3.0)
    first, second = Simulation(engine).run([Call(0.0, 100, 1000), Call(0.0, 100, 10)])
    assert (first.ending, second.ending) == (Ending.CUT, Ending.TIMED_OUT)
    assert first.end_at == pytest.approx(3.0, abs=TIMES.step(1))


@settings(max_examples=25, deadline=None)
@given(engines, gaps, st.integers(1, 3))
def test_no_run_is_faster_than_the_closed_form(
    engine: EngineModel, rows: list[tuple[float, int, int]], instances: int
) -> None:
    whole = EngineModel(TIMES, engine.rows, 1000, prefills_per_step=engine.prefills_per_step)
    calls = Simulation(whole, instances).run(calls_of(rows))
    busy_s = sum(closed_form.engine_s(whole, call.input_tokens, call.new_tokens) for call in calls)
    assert max(call.end_at for call in calls) - calls[0].arrival >= busy_s / instances - 1e-9
    for call in calls:
        alone_s = closed_form.alone_s(whole, call.input_tokens, call.new_tokens)
        assert call.end_at - call.arrival >= alone_s - 1e-9


@pytest.mark.parametrize("callers", [2, 8, 24])
def test_callers_who_wait_meet_the_latency_of_the_closed_form(callers: int) -> None:
    engine = EngineModel(ServiceTimes((1500,), (0.3,), 0.025, 0.0002, 0.03), 8, 100)
    left = 60 * callers
    generator = random.Random(3)

    def next_call(_: Call, now: float) -> Call | None:
        nonlocal left
        left -= 1
        return Call(now, 1500, generator.randint(100, 300)) if left >= 0 else None

    starts = sorted(generator.uniform(0, 5) for _ in range(callers))
    calls = Simulation(engine, next_call=next_call).run([Call(at, 1500, 200) for at in starts])
    window = sorted(calls, key=lambda call: call.arrival)[len(calls) // 5 : 4 * len(calls) // 5]
    latency_s = sum(call.end_at - call.arrival for call in window) / len(window)
    new_tokens = sum(call.new_tokens for call in window) / len(window)
    expected_s, _ = closed_form.closed_loop(engine, callers, 1500, new_tokens)
    assert latency_s == pytest.approx(expected_s, rel=0.03)


def test_at_a_low_rate_latency_is_that_of_the_closed_form() -> None:
    engine = EngineModel(ServiceTimes((1500,), (0.3,), 0.025, 0.0, 0.03), 8, 100)
    rate = 0.3 * closed_form.largest_rate(engine, 1500, 220)
    calls = random_calls(rate, number=3000)
    for call in calls:
        call.input_tokens, call.new_tokens = 1500, 220
    done = Simulation(engine).run(calls)
    latency_s = sum(call.end_at - call.arrival for call in done) / len(done)
    expected = closed_form.open_loop(engine, rate, 1500, 220)
    assert expected is not None
    assert latency_s == pytest.approx(expected[0], rel=0.06)


def test_several_engines_of_an_instance_are_as_fast_as_so_many_instances() -> None:
    """Published runs of 8B on 3 engines of 8 cores and 32 rows: 1,320 tokens a second, each call 16.0 s."""
    times = ServiceTimes((1500,), (0.2975,), 0.0254, 0.0, 0.02975)
    engine = EngineModel(times, 32, 100, engines=3)
    callers = 96
    assert engine.places == 3 * 132
    latency_s, rate = closed_form.closed_loop(engine, callers, 1500, 220, instances=engine.engines)
    assert (latency_s, 220 * rate) == (pytest.approx(16.0, rel=0.01), pytest.approx(1320, rel=0.01))
    left = 10 * callers

    def next_call(_: Call, now: float) -> Call | None:
        nonlocal left
        left -= 1
        return Call(now, 1500, 220) if left >= 0 else None

    starts = sorted(random.Random(1).uniform(0, 15) for _ in range(callers))
    calls = Simulation(engine, next_call=next_call).run([Call(at, 1500, 220) for at in starts])
    window = sorted(calls, key=lambda call: call.arrival)[len(calls) // 5 : 4 * len(calls) // 5]
    simulated_s = sum(call.end_at - call.arrival for call in window) / len(window)
    assert simulated_s == pytest.approx(latency_s, rel=0.02)
