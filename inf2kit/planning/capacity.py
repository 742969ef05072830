"""How many instances a demand needs, where the knee is, and what breaks first when the load grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inf2kit.errors import PlanError
from inf2kit.planning import closed_form
from inf2kit.planning.basis import Errors
from inf2kit.planning.prediction import Objectives, Prediction, Predictor

#: Above this share of the largest rate, a few per cent of error in the times are tens of per cent of latency.
HIGHEST_LOAD = 0.85
#: The share of calls that must be good, and the largest share that may be refused or cut.
GOOD_SHARE, MOST_FAILED = 0.95, 0.01
#: As many as an endpoint of inf2kit may have.
MOST_INSTANCES = 100
#: The share of the largest rate that leaves an instance nearly idle.
_QUIET = 0.01
#: Loads of a sweep: shares of the largest rate, and multiples of the rows for callers who wait.
_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3)
_CALLERS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True)
class Limit:
    """A limit that a growing load passes.

    Attributes:
        what: What happens.
        amount: The first simulated load beyond it: calls per second, or callers.
        load: The same as a share of the largest rate.
    """

    what: str
    amount: float
    load: float


def is_enough(prediction: Prediction, errors: Errors) -> bool:
    """Whether the objectives hold, with the errors' margin in them, and in the load of an open loop."""
    half_width = prediction.good.half_width
    good = prediction.good.value - (0.0 if math.isnan(half_width) else half_width)
    load = prediction.load * (1 + errors.throughput)
    return (
        (prediction.callers is not None or load <= HIGHEST_LOAD)
        and good >= GOOD_SHARE
        and prediction.refused.value + prediction.cut.value <= MOST_FAILED
    )


def least_instances(predictor: Predictor, errors: Errors, amount: float | None = None) -> Prediction:
    """Predict for the fewest instances that are enough.

    Args:
        predictor: Predicts against objectives that have the errors' margin.
        errors: The errors to expect.
        amount: Calls per second or callers; the demand's own by default.

    Raises:
        PlanError: a hundred instances are not enough, or no number is.
    """
    check_alone(predictor, errors)
    high = _start(predictor, errors, amount)
    low = high - 1
    best = predictor.predict(high, amount)
    while not is_enough(best, errors):
        if high >= MOST_INSTANCES:
            raise PlanError(
                f"{MOST_INSTANCES} instances are not enough for these objectives: {best.good.value:.1%} of "
                "the calls meet them there; ask for fewer new tokens, allow more time, or take a faster "
                "preset"
            )
        low, high = high, min(2 * high, MOST_INSTANCES)
        best = predictor.predict(high, amount)
    while high - low > 1:
        middle = (low + high) // 2
        prediction = predictor.predict(middle, amount)
        if is_enough(prediction, errors):
            high, best = middle, prediction
        else:
            low = middle
    return best


def _start(predictor: Predictor, errors: Errors, amount: float | None) -> int:
    """The number of instances below which a demand cannot be served, by the closed form or by the places.

    Raises:
        PlanError: an endpoint cannot have so many.
    """
    demand, engine = predictor.demand, predictor.engine
    if demand.callers:
        asked, reason = f"{demand.amount} need", f"one holds {engine.places}"
        number = math.ceil((amount or demand.callers) / engine.places)
    else:
        rate = amount or demand.rate or 0.0
        most = HIGHEST_LOAD * predictor.largest_rate / (1 + errors.throughput)
        asked, reason = f"{rate:g} calls a second need", f"one takes {most:.3g} of them"
        number = math.ceil(rate / most)
    if number > MOST_INSTANCES:
        raise PlanError(
            f"{asked} at least {number} instances, as {reason}, and an endpoint of inf2kit has at most "
            f"{MOST_INSTANCES}; use several endpoints, or a preset with more rows"
        )
    return number


def check_alone(predictor: Predictor, errors: Errors) -> None:
    """Check that a call that has an instance to itself meets the objectives.

    Raises:
        PlanError: it does not, so that no number of instances helps.
    """
    objectives, engine = predictor.objectives, predictor.engine
    times = engine.times
    first_s = times.prefill(round(predictor.mean_input)) + times.round_trip_s
    alone_s = closed_form.alone_s(engine, predictor.mean_input, predictor.mean_new)
    if first_s > min(objectives.ttft_s or math.inf, engine.deadline_s):
        raise PlanError(
            f"no number of instances gives a first token in time: a call of {predictor.mean_input:.0f} "
            f"input tokens that has an instance to itself waits {first_s:.2g} s for it, and with the error "
            f"to expect {first_s * (1 + errors.first_token):.2g} s; send shorter prompts, or take a preset "
            "with more cores"
        )
    limit_s = min(objectives.latency_s or math.inf, engine.ends_s)
    if alone_s > limit_s:
        latency = errors.latency if predictor.demand.callers else errors.open_latency
        fitting = 1 + int(max(0.0, limit_s - first_s - times.stall_s) / times.step(1))
        is_cut = alone_s > engine.ends_s and engine.stream_deadline_s is None
        remedy = "stream them (--stream) if the preset has a stream_deadline_s, " if is_cut else ""
        raise PlanError(
            f"no number of instances gives answers in time: {predictor.mean_new:.0f} new tokens take "
            f"{alone_s:.3g} s where a call has an instance to itself, with the error to expect up to "
            f"{alone_s * (1 + latency):.3g} s, and calls are cut at {engine.ends_s:g} s; ask for at "
            f"most {fitting} new tokens, {remedy}or take a faster preset"
        )
    quiet = (
        predictor.with_callers(1, 1)
        if predictor.demand.callers
        else predictor.at_rate(_QUIET * predictor.largest_rate, 1)
    )
    if quiet.good.value < GOOD_SHARE:
        raise PlanError(
            f"no number of instances is enough: in an instance that is nearly idle {quiet.good.value:.1%} "
            "of the calls meet these objectives with the error to expect, and nineteen of twenty must; "
            f"the 95th percentiles are {quiet.time_to_first_token['p95'].value:.2g} s to the first token "
            f"and {quiet.request_latency['p95'].value:.3g} s to the last; ask for fewer new tokens, allow "
            "more time, or take a faster preset"
        )


def sweep(predictor: Predictor, instances: int) -> list[Prediction]:
    """Predict for loads from a tenth of what the instances can take to more than all."""
    if predictor.demand.callers:
        rows = predictor.engine.engines * predictor.engine.rows * instances
        callers = sorted({max(1, round(factor * rows)) for factor in _CALLERS})
        return [predictor.with_callers(number, instances) for number in callers]
    most = predictor.largest_rate * instances
    return [predictor.at_rate(load * most, instances) for load in _LOADS]


def knee(predictions: Sequence[Prediction]) -> Prediction:
    """The load with the most power: throughput by latency, beyond which latency grows faster than throughput.

    Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer communications",
    1979.
    """
    return max(
        predictions,
        key=lambda each: each.request_throughput.value / each.request_latency["mean"].value,
    )


def limits(predictions: Sequence[Prediction], objectives: Objectives, deadline_s: float) -> list[Limit]:
    """What a growing load breaks, in the order in which it does.

    Args:
        predictions: Those of a sweep.
        objectives: The objectives, with the errors' margin.
        deadline_s: Seconds after which calls are cut.
    """
    never = math.inf
    conditions: dict[str, Callable[[Prediction], bool]] = {
        "one call in twenty waits for a row": lambda each: each.waiting_s["p95"].value > _a_step(each),
        "one first token in twenty is late": lambda each: (
            each.time_to_first_token["p95"].value > (objectives.ttft_s or never)
        ),
        "one answer in twenty is late": lambda each: (
            each.request_latency["p95"].value > (objectives.latency_s or never)
        ),
        f"answers are cut at {deadline_s:g} s": lambda each: each.cut.value > MOST_FAILED,
        "calls are refused with 429": lambda each: each.refused.value > MOST_FAILED,
    }
    reached = []
    for what, condition in conditions.items():
        first = next((each for each in predictions if condition(each)), None)
        if first is not None:
            reached.append(Limit(what, first.callers or first.rate, first.load))
    return sorted(reached, key=lambda limit: limit.amount)


def _a_step(prediction: Prediction) -> float:
    """Seconds that a call waits for the end of a step and of a prefill although a row is free, about."""
    return 2 * prediction.inter_token_latency.value
