"""The load generators of the published runs, as their code is: what they send, when, and what they count.

guidellm 0.1.0 keeps at most one call fewer in flight than its users, and looks for a free place every 0.1 s.
Its "128 users" are five times as many calls as a single caller made in 120 s, all at once: a burst. Rates are
constant. After 120 s it stops, and what has no answer is not counted. Its window is from the start of the
first call that it counts to the end of the last one.

LLMPerf before December 2024 sends its callers' calls in waves: the next ones when all have their answers.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from inf2kit.planning.prediction import percentile
from inf2kit.planning.simulation import Call, Ending, Simulation
from inf2kit.planning.times import EngineModel

#: Seconds that guidellm measures, and between two looks for a free place.
_PHASE_S, _POLL_S = 120.0, 0.1
#: Seconds between two calls of a burst, as its loop sends them.
_SEND_S = 0.001

Draw = Callable[[random.Random], int]


@dataclass(frozen=True)
class Figures:
    """What a tool reports; seconds and tokens per second."""

    latency: float
    ttft: float
    itl: float
    tokens: float
    latency_p50: float = math.nan
    latency_p95: float = math.nan
    ttft_p50: float = math.nan
    ttft_p95: float = math.nan
    per_token_p50: float = math.nan

    @classmethod
    def mean(cls, runs: Sequence[Figures]) -> Figures:
        """The mean of several simulations."""
        names = cls.__dataclass_fields__
        return cls(**{name: statistics.fmean(getattr(run, name) for run in runs) for name in names})


def lengths(mean: float, pool: Sequence[int]) -> Draw:
    """Answers' lengths as in the raw runs, weighted so that their mean is a given one.

    No run has a fixed length: guidellm asks for 250 tokens, and texts end earlier. Where no weights reach the
    mean, lengths are close to it.
    """
    low, high = -0.2, 0.2
    weights: list[float] = []
    reached = 0.0
    for _ in range(60):
        tilt = (low + high) / 2
        weights = [math.exp(tilt * (tokens - 250)) for tokens in pool]
        reached = sum(weight * tokens for weight, tokens in zip(weights, pool, strict=True)) / sum(weights)
        low, high = (tilt, high) if reached < mean else (low, tilt)
    if abs(reached - mean) > 2:
        return lambda generator: max(2, round(generator.gauss(mean, 4.5)))
    return lambda generator: generator.choices(pool, weights)[0]


def in_order(tokens: Sequence[int]) -> Callable[[], Draw]:
    """The lengths of a raw run, one after the other."""

    def start() -> Draw:
        rest: Iterator[int] = iter(tokens)
        return lambda _: next(rest)

    return start


def guidellm_users(
    engine: EngineModel,
    engines: int,
    calls: int,
    in_flight: int,
    input_tokens: int,
    draw: Callable[[], Draw],
    seeds: int = 6,
) -> Figures:
    """A number of calls, at most ``in_flight`` at once."""
    runs = []
    for seed in range(seeds):
        generator, tokens = random.Random(seed), draw()
        left = calls - min(in_flight, calls)

        def next_call(_: Call, now: float, generator=generator, tokens=tokens) -> Call | None:
            nonlocal left
            if left <= 0:
                return None
            left -= 1
            return Call(now + generator.uniform(0, _POLL_S), input_tokens, tokens(generator))

        first = [Call(_SEND_S * n, input_tokens, tokens(generator)) for n in range(min(in_flight, calls))]
        simulation = Simulation(engine, engines, routing="round_robin", next_call=next_call)
        runs.append(_guidellm(simulation.run(first, _PHASE_S)))
    return Figures.mean(runs)


def guidellm_rate(
    engine: EngineModel,
    engines: int,
    rate: float,
    input_tokens: int,
    draw: Callable[[], Draw],
    seeds: int = 4,
) -> Figures:
    """Calls at equal distances for 120 s."""
    runs = []
    for seed in range(seeds):
        generator, tokens = random.Random(seed), draw()
        calls = [Call(n / rate, input_tokens, tokens(generator)) for n in range(int(_PHASE_S * rate))]
        runs.append(_guidellm(Simulation(engine, engines, routing="round_robin").run(calls, _PHASE_S)))
    return Figures.mean(runs)


def llmperf_waves(
    engine: EngineModel, engines: int, callers: int, input_tokens: int, mean: float, seeds: int = 2
) -> Figures:
    """Eight waves of calls, three of many callers."""
    runs = []
    for seed in range(seeds):
        generator, began, done = random.Random(seed), 0.0, []
        for _ in range(8 if callers < 64 else 3):
            calls = [
                Call(began, input_tokens, max(2, round(generator.gauss(mean, 20 if mean > 200 else 5))))
                for _ in range(callers)
            ]
            wave = Simulation(engine, engines, routing="round_robin").run(calls)
            began = max(call.end_at for call in wave)
            done += wave
        runs.append(_figures(done, began))
    return Figures.mean(runs)


def _guidellm(calls: Sequence[Call]) -> Figures:
    done = [call for call in calls if call.ending is Ending.ANSWERED]
    return _figures(done, max(call.end_at for call in done) - min(call.arrival for call in done))


def _figures(done: Sequence[Call], seconds: float) -> Figures:
    latencies = sorted(call.end_at - call.arrival for call in done)
    firsts = sorted(call.first_at - call.arrival for call in done)
    gaps = sum(call.tokens - 1 for call in done)
    return Figures(
        statistics.fmean(latencies),
        statistics.fmean(firsts),
        sum(call.end_at - call.first_at for call in done) / gaps,
        sum(call.tokens for call in done) / seconds,
        percentile(latencies, 50),
        percentile(latencies, 95),
        percentile(firsts, 50),
        percentile(firsts, 95),
        statistics.median((call.end_at - call.arrival) / call.tokens for call in done),
    )
