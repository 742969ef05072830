"""What a demand meets on some instances: simulated several times, with the spread between the simulations."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inf2kit.planning import closed_form
from inf2kit.planning.demand import Demand, fit_to_rows
from inf2kit.planning.simulation import Call, Ending, Simulation
from inf2kit.planning.times import EngineModel
from inf2kit.serving.shapes import StaticShapes

#: Two-sided 95 % quantiles of Student's t, by degrees of freedom.
_T = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
#: The shares of the calls that are left out, in their order: before it is steady, and where none follow.
_WARM_UP, _TAIL = 0.15, 0.1
_PERCENTILES = (50, 90, 95, 99)
#: Seconds in which SageMaker must have a whole answer.
WHOLE_LIMIT_S = 60.0


@dataclass(frozen=True)
class Objectives:
    """What nineteen of twenty calls must meet, in seconds; None where nothing is asked."""

    ttft_s: float | None = None
    latency_s: float | None = None

    def slower(self, latency: float, first_token: float) -> Objectives:
        """Return stricter objectives, for predictions that may be too fast by these shares."""
        return Objectives(
            self.ttft_s and self.ttft_s / (1 + first_token),
            self.latency_s and self.latency_s / (1 + latency),
        )


@dataclass(frozen=True)
class Estimate:
    """A figure, the mean of several simulations, and half of its 95 % confidence interval."""

    value: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The mean of simulations with different seeds; NaN if none of them has a value."""
        values = [value for value in values if not math.isnan(value)]
        if len(values) < 2:
            return cls(values[0] if values else math.nan, math.nan)
        deviation = statistics.stdev(values) / math.sqrt(len(values))
        return cls(statistics.fmean(values), _T[min(len(values) - 1, len(_T) - 1)] * deviation)


@dataclass(frozen=True)
class Prediction:
    """What was simulated of a demand on some instances.

    Attributes:
        rate: Calls per second that come; in a closed loop those that are answered.
        callers: Callers who each wait for their answer; None where calls come by themselves.
        instances: Number of instances.
        load: The share of the largest rate that these instances can take; at most about 1 in a closed loop.
        request_latency: Seconds of an answered call, by percentile (50, 90, 95, 99) and as ``mean``.
        time_to_first_token: The same to the first token.
        waiting_s: The same until a call got a row.
        inter_token_latency: Mean seconds between two tokens of a call.
        request_throughput: Calls answered per second.
        output_token_throughput: New tokens per second.
        refused: Share of the calls that found the queue full, or no row until their deadline: 429.
        cut: Share that was answered at its deadline with the tokens so far.
        over_60_s: Share that took more than 60 s, in which SageMaker ends a call whose answer is not
            complete.
        good: Share that met every objective, and was answered whole.
        inside: Calls that run or wait in one instance, on average.
        rows_live: Rows that decode in one instance, on average.
    """

    rate: float
    callers: int | None
    instances: int
    load: float
    request_latency: dict[str, Estimate]
    time_to_first_token: dict[str, Estimate]
    waiting_s: dict[str, Estimate]
    inter_token_latency: Estimate
    request_throughput: Estimate
    output_token_throughput: Estimate
    refused: Estimate
    cut: Estimate
    over_60_s: Estimate
    good: Estimate
    inside: Estimate
    rows_live: Estimate


class Predictor:
    """Predicts for one engine, one demand and some objectives.

    Args:
        engine: Each instance's engine.
        shapes: The static shapes, which limit prompts and answers.
        demand: What is asked.
        objectives: What calls must meet to count as good.
        seeds: Number of simulations of each prediction.
        calls: Calls of each simulation, at least.
    """

    def __init__(
        self,
        engine: EngineModel,
        shapes: StaticShapes,
        demand: Demand,
        objectives: Objectives,
        *,
        seeds: int = 5,
        calls: int = 1000,
    ) -> None:
        self.engine, self.demand, self.objectives = engine, demand, objectives
        self._shapes, self._seeds, self._calls = shapes, seeds, calls
        sample = self._fit([Call(0.0, *demand.lengths(random.Random(seed))) for seed in range(2000)])  # noqa: S311
        self.mean_input = statistics.fmean(call.input_tokens for call in sample)
        self.mean_new = statistics.fmean(call.new_tokens for call in sample)
        #: Calls per second of one instance that is never idle.
        self.largest_rate = engine.engines / statistics.fmean(
            closed_form.engine_s(engine, call.input_tokens, call.new_tokens) for call in sample
        )

    def predict(self, instances: int, amount: float | None = None) -> Prediction:
        """Predict for a number of instances.

        Args:
            instances: Their number.
            amount: Calls per second or callers, whichever the demand has; the demand's own by default.
        """
        if self.demand.callers:
            return self.with_callers(round(amount or self.demand.callers), instances)
        return self.at_rate(amount or self.demand.rate or 0.0, instances)

    def at_rate(self, rate: float, instances: int) -> Prediction:
        """Predict calls that come by themselves."""
        number = self._number(instances)

        def simulate(seed: int) -> list[Call]:
            generator = random.Random(seed)  # noqa: S311
            calls = self._fit(self.demand.calls(generator, number, rate))
            return Simulation(self.engine, instances, seed=seed).run(calls)

        load = rate / (instances * self.largest_rate)
        return self._predict(simulate, rate, None, instances, load)

    def with_callers(self, callers: int, instances: int) -> Prediction:
        """Predict callers who each wait for their answer, and call again at once."""
        number = max(self._number(instances), 12 * callers)

        def simulate(seed: int) -> list[Call]:
            generator = random.Random(seed)  # noqa: S311
            alone_s = closed_form.alone_s(self.engine, self.mean_input, self.mean_new)
            starts = sorted(generator.uniform(0, alone_s) for _ in range(callers))
            first = self._fit([Call(start, *self.demand.lengths(generator)) for start in starts])
            left = number - callers
            # As the gateway says in ``retry_after_s``: the batches inside, and the seconds of each.
            batches = (self.engine.rows + self.engine.queue_size) / self.engine.rows
            retry_s = max(1.0, batches * alone_s)

            def next_call(ended: Call, now: float) -> Call | None:
                nonlocal left
                if ended.ending in (Ending.REFUSED, Ending.TIMED_OUT):
                    return Call(now + retry_s, ended.input_tokens, ended.new_tokens)
                left -= 1
                if left < 0:
                    return None
                (call,) = self._fit([Call(now, *self.demand.lengths(generator))])
                return call

            return Simulation(self.engine, instances, next_call=next_call, seed=seed).run(first)

        prediction = self._predict(simulate, None, callers, instances, 0.0)
        load = prediction.rate / (instances * self.largest_rate)
        return dataclasses.replace(prediction, load=load)

    def _number(self, instances: int) -> int:
        return max(self._calls, min(8 * self._calls, 30 * self.engine.engines * self.engine.rows * instances))

    def _fit(self, calls: Sequence[Call]) -> Sequence[Call]:
        return fit_to_rows(calls, self._shapes.max_context_length, self._shapes.sequence_length)

    def _predict(
        self,
        simulate: Callable[[int], list[Call]],
        rate: float | None,
        callers: int | None,
        instances: int,
        load: float,
    ) -> Prediction:
        runs = [self._measure(simulate(seed), instances) for seed in range(self._seeds)]
        figures = {name: Estimate.of([run[name] for run in runs]) for name in runs[0]}
        distributions: dict[str, Any] = {}
        single: dict[str, Any] = {}
        for name, figure in figures.items():
            metric, _, part = name.partition(" ")
            if part:
                distributions.setdefault(metric, {})[part] = figure
            else:
                single[metric] = figure
        arrived = figures["request_throughput"].value if rate is None else rate
        return Prediction(
            rate=arrived, callers=callers, instances=instances, load=load, **distributions, **single
        )

    def _measure(self, calls: list[Call], instances: int) -> dict[str, float]:
        """The figures of one simulation: names as in ``Prediction``, distributions with their percentile."""
        ordered = sorted(calls, key=lambda call: call.arrival)
        window = ordered[int(_WARM_UP * len(calls)) : int((1 - _TAIL) * len(calls))] or ordered
        seconds = window[-1].arrival - window[0].arrival or 1.0
        round_trip_s = self.engine.times.round_trip_s
        done = [call for call in window if call.ending in (Ending.ANSWERED, Ending.CUT)]
        refused = sum(call.ending in (Ending.REFUSED, Ending.TIMED_OUT) for call in window)
        columns = {
            "request_latency": [call.end_at - call.arrival + round_trip_s for call in done],
            "time_to_first_token": [call.first_at - call.arrival + round_trip_s for call in done],
            "waiting_s": [call.row_at - call.arrival for call in done],
        }
        figures = {}
        for name, values in columns.items():
            values.sort()
            figures[f"{name} mean"] = statistics.fmean(values) if values else math.nan
            for percent in _PERCENTILES:
                figures[f"{name} p{percent}"] = percentile(values, percent)
        gaps = sum(call.tokens - 1 for call in done)
        decode_s = sum(call.end_at - call.first_at for call in done)
        inside_s = sum(call.end_at - call.arrival for call in done)
        return {
            **figures,
            "inter_token_latency": decode_s / gaps if gaps else math.nan,
            "request_throughput": len(done) / seconds,
            "output_token_throughput": sum(call.tokens for call in done) / seconds,
            "refused": refused / len(window),
            "cut": sum(call.ending is Ending.CUT for call in window) / len(window),
            "over_60_s": sum(seconds > WHOLE_LIMIT_S for seconds in columns["request_latency"]) / len(window),
            "good": sum(self._is_good(call) for call in window) / len(window),
            "inside": inside_s / seconds / instances,
            "rows_live": decode_s / seconds / instances,
        }

    def _is_good(self, call: Call) -> bool:
        objectives, away_s = self.objectives, self.engine.times.round_trip_s - call.arrival
        return (
            call.ending is Ending.ANSWERED
            and (objectives.ttft_s is None or call.first_at + away_s <= objectives.ttft_s)
            and (objectives.latency_s is None or call.end_at + away_s <= objectives.latency_s)
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """A percentile of ascending values, linear between two of them; NaN if there are none."""
    if not ordered:
        return math.nan
    place = percent / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
