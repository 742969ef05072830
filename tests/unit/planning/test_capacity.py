"""Instances, knee and limits: what must grow with the load, the rows and the price does."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inf2kit.errors import PlanError
from inf2kit.planning import capacity, closed_form, scaling
from inf2kit.planning.basis import ESTIMATED, MEASURED, Errors
from inf2kit.planning.demand import Demand
from inf2kit.planning.lengths import Lengths
from inf2kit.planning.prediction import Objectives, Predictor
from inf2kit.planning.scaling import Growth
from inf2kit.planning.times import EngineModel, ServiceTimes
from inf2kit.serving.shapes import StaticShapes

ENGINE = EngineModel(ServiceTimes((1500,), (0.3,), 0.025, 0.0, 0.03), 8, 32, 55.0)
SHAPES = StaticShapes.resolve(8, 4096)


def predictor(
    rate: float | None = 1.0,
    callers: int | None = None,
    *,
    engine: EngineModel = ENGINE,
    objectives: Objectives | None = None,
) -> Predictor:
    demand = Demand.of_lengths(Lengths.parse("1500"), Lengths.parse("200~60"), rate=rate, callers=callers)
    return Predictor(engine, SHAPES, demand, objectives or Objectives(3, 20), seeds=2, calls=300)


def test_more_load_takes_longer() -> None:
    latencies = [
        predictor().at_rate(rate, 1).request_latency["mean"].value for rate in (0.1, 0.5, 0.8, 0.95, 1.2)
    ]
    assert latencies == sorted(latencies)
    callers = [
        predictor(None, 1).with_callers(number, 1).request_latency["mean"].value
        for number in (1, 4, 8, 16, 30)
    ]
    assert callers == sorted(callers)


def test_more_rows_and_more_instances_take_no_longer() -> None:
    waits = [
        predictor(engine=dataclasses.replace(ENGINE, rows=rows)).at_rate(0.6, 1).waiting_s["mean"].value
        for rows in (4, 6, 8, 16)
    ]
    assert waits == sorted(waits, reverse=True)
    latencies = [predictor().at_rate(0.9, number).request_latency["mean"].value for number in (1, 2, 4)]
    assert latencies == sorted(latencies, reverse=True)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.2, 8.0), st.sampled_from([MEASURED, ESTIMATED]))
def test_instances_are_never_fewer_than_the_closed_form_needs(rate: float, errors: Errors) -> None:
    subject = predictor(rate, objectives=Objectives(5, 40))
    prediction = capacity.least_instances(subject, errors)
    assert prediction.instances * subject.largest_rate > rate
    assert prediction.load * (1 + errors.throughput) <= capacity.HIGHEST_LOAD
    assert prediction.good.value >= capacity.GOOD_SHARE
    latency = prediction.request_latency["mean"].value
    assert latency >= closed_form.alone_s(ENGINE, subject.mean_input, subject.mean_new)


def test_more_load_never_needs_fewer_instances() -> None:
    numbers = [capacity.least_instances(predictor(rate), MEASURED).instances for rate in (0.3, 0.9, 1.8, 3.6)]
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0]


def test_times_with_a_larger_error_never_need_fewer_instances() -> None:
    numbers = []
    for errors in (MEASURED, ESTIMATED):
        objectives = Objectives(3, 20).slower(errors.open_latency, errors.first_token)
        subject = predictor(2.0, objectives=objectives)
        numbers.append(capacity.least_instances(subject, errors).instances)
    assert numbers[1] >= numbers[0]


@pytest.mark.parametrize(
    ("objectives", "sentence"),
    [
        (Objectives(0.2, None), "no number of instances gives a first token in time"),
        (Objectives(None, 2.0), r"no number of instances gives answers in time.*at most \d+ new tokens"),
        (Objectives(None, 6.0), "nearly idle"),
    ],
)
def test_objectives_that_a_call_alone_misses_are_refused(objectives: Objectives, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        capacity.least_instances(predictor(objectives=objectives), MEASURED)


def test_a_load_for_more_than_a_hundred_instances_is_refused() -> None:
    with pytest.raises(PlanError, match=r"need at least 1[0-9]+ instances"):
        capacity.least_instances(predictor(150.0), MEASURED)


def test_the_knee_lies_within_the_largest_rate_and_refusals_above_it() -> None:
    subject = predictor()
    predictions = capacity.sweep(subject, 1)
    assert 0.3 <= capacity.knee(predictions).load <= 1.0
    limits = {limit.what: limit.load for limit in capacity.limits(predictions, subject.objectives, 55)}
    assert limits["calls are refused with 429"] > 1.0
    assert list(limits.values()) == sorted(limits.values())


def test_an_answer_that_no_deadline_allows_is_counted_as_cut() -> None:
    engine = dataclasses.replace(ENGINE, deadline_s=4.0)
    prediction = predictor(engine=engine, objectives=Objectives()).at_rate(0.2, 1)
    assert prediction.cut.value > 0.5
    assert prediction.good.value < 0.5
    assert prediction.request_latency["p99"].value < 4.5


def test_a_stream_goes_on_after_its_first_token() -> None:
    engine = dataclasses.replace(ENGINE, deadline_s=4.0, stream_deadline_s=400.0)
    prediction = predictor(engine=engine, objectives=Objectives()).at_rate(0.2, 1)
    assert (prediction.cut.value, prediction.good.value) == (0.0, 1.0)
    overloaded = predictor(engine=engine, objectives=Objectives()).at_rate(3.0, 1)
    assert overloaded.time_to_first_token["p99"].value <= 5.0, "who waits longer has no row"
    assert overloaded.refused.value > 0.3
    assert overloaded.request_latency["p99"].value > 5.0


def test_a_first_token_that_no_deadline_allows_is_refused() -> None:
    engine = dataclasses.replace(ENGINE, deadline_s=0.25, stream_deadline_s=400.0)
    with pytest.raises(PlanError, match="no number of instances gives a first token in time"):
        capacity.check_alone(predictor(engine=engine, objectives=Objectives()), MEASURED)


def test_the_scaling_target_leaves_room_for_what_comes_meanwhile() -> None:
    subject = predictor(2.0, objectives=Objectives(5, 30))
    instances = capacity.least_instances(subject, MEASURED).instances
    calm, steep = (
        scaling.plan(subject, instances, MEASURED, Growth(2.0, growth, 600)) for growth in (0.0, 0.05)
    )
    assert steep.target_concurrency < calm.target_concurrency <= ENGINE.rows
    assert steep.min_instances >= calm.min_instances >= instances
    assert calm.max_instances > calm.min_instances
    assert calm.scale_in_cooldown_s >= calm.scale_out_cooldown_s == 600
    assert f"target_concurrency={calm.target_concurrency:g}" in calm.context


@pytest.mark.parametrize("text", ["256", "100-500", "220~90"])
def test_lengths_are_drawn_around_their_mean(text: str) -> None:
    lengths = Lengths.parse(text)
    generator = random.Random(0)
    drawn = [lengths.draw(generator) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(lengths.mean, rel=0.03)
    assert min(drawn) >= 1
    assert str(lengths) == text
