"""A fit gives back the times that calls were made of, by the planner's own closed form."""

from __future__ import annotations

import dataclasses

import pytest

from inf2kit.bench.load.calibrate import RHO, Subject, fit, saturated_rate
from inf2kit.bench.load.samples import Cell, Load, Sample
from inf2kit.errors import Inf2KitError
from inf2kit.planning.closed_form import closed_loop
from inf2kit.planning.times import EngineModel, ServiceTimes

SUBJECT = Subject("p", 8, 2048, 1, False, "a machine")
TRIP_S, NEW = 0.004, 101


def call(number: int, sent_s: float, first_s: float, latency_s: float, tokens: int = NEW) -> Sample:
    return Sample(
        number,
        sent_s,
        sent_s,
        sent_s + latency_s,
        (sent_s + first_s, sent_s + latency_s),
        input_tokens=256,
        generated_tokens=tokens,
    )


def cells(times: ServiceTimes, rows: int) -> tuple[Cell, Cell]:
    """Calls alone, and a full closed loop, that take exactly what the closed form says."""
    engine = EngineModel(times, rows, 32)
    prefill_s = times.prefill(256) + times.round_trip_s
    alone_s = TRIP_S + prefill_s + (NEW - 1) * times.step(1)
    single = [call(number, number * alone_s, TRIP_S + prefill_s, alone_s) for number in range(10)]
    full_s = TRIP_S + times.round_trip_s + closed_loop(engine, rows, 256, NEW)[0]
    full = [
        call(rows * step + row, step * full_s, prefill_s, full_s) for step in range(12) for row in range(rows)
    ]
    began = "2026-01-01T00:00:00+00:00"
    return (
        Cell(Load("callers", 1), tuple(single), began, 10 * alone_s, streamed=True),
        Cell(Load("callers", rows), tuple(full), began, 11 * full_s, streamed=True),
    )


@pytest.mark.parametrize(
    ("on_device", "times"),
    [
        (True, ServiceTimes((256,), (0.3,), 0.025, 0.0, 0.03)),
        (True, ServiceTimes((256,), (0.3,), 0.025)),
        (False, ServiceTimes((256,), (0.3,), 0.046, 0.002)),
        (False, ServiceTimes((256,), (0.05,), 0.0, 0.01)),
    ],
)
def test_the_times_come_back(on_device: bool, times: ServiceTimes) -> None:
    single, full = cells(times, 8)
    subject = dataclasses.replace(SUBJECT, on_device_sampling=on_device)
    prefills = {1024: [call(0, 0.0, TRIP_S + 0.9, TRIP_S + 0.9, tokens=1)], 64: []}
    calibration = fit(subject, single, full, prefills, TRIP_S, "simulated")
    assert calibration.prefill_tokens == (256, 1024)
    assert calibration.prefill_s == pytest.approx((times.prefill(256), 0.9))
    assert calibration.step_s == pytest.approx(times.step_s, abs=1e-6)
    assert calibration.row_step_s == pytest.approx(times.row_step_s, abs=1e-6)
    assert calibration.stall_s == pytest.approx(times.stall_s, abs=1e-5)
    assert (calibration.new_tokens, calibration.new_tokens_deviation) == (NEW, 0)
    assert (calibration.round_trip_s, calibration.notice) == (TRIP_S, "simulated")
    rate = closed_loop(EngineModel(times, 8, 32), 8, 256, NEW)[1]
    assert saturated_rate(calibration, 256) == pytest.approx(rate, rel=1e-3)
    assert 0 < RHO < 1


@pytest.mark.parametrize("on_device", [True, False])
def test_what_the_other_rows_do_not_wait_for_is_outside_the_engine(on_device: bool) -> None:
    """Of 0.3 s to a first token, the gateway takes 0.05."""
    single, full = cells(ServiceTimes((256,), (0.25,), 0.025, round_trip_s=0.05), 8)
    subject = dataclasses.replace(SUBJECT, on_device_sampling=on_device)
    calibration = fit(subject, single, full, {}, TRIP_S)
    assert calibration.prefill_s == pytest.approx((0.25,))
    assert calibration.round_trip_s == pytest.approx(TRIP_S + 0.05)
    assert (calibration.stall_s, calibration.row_step_s) == (0, 0)
    times = ServiceTimes((256,), calibration.prefill_s, calibration.step_s)
    predicted_s = closed_loop(EngineModel(times, 8, 32), 8, 256, NEW)[0] + calibration.round_trip_s
    assert predicted_s == pytest.approx(full.samples[0].latency_s, rel=1e-3)


def test_a_full_engine_that_is_faster_than_an_idle_one_is_no_calibration() -> None:
    single, full = cells(ServiceTimes((256,), (0.3,), 0.025), 8)
    faster = tuple(dataclasses.replace(each, end_s=each.sent_s + 1.0) for each in full.samples)
    for on_device in (True, False):
        subject = dataclasses.replace(SUBJECT, on_device_sampling=on_device)
        with pytest.raises(Inf2KitError, match="something else used the endpoint"):
            fit(subject, single, dataclasses.replace(full, samples=faster), {}, TRIP_S)


def test_calls_that_say_nothing_are_a_sentence() -> None:
    single, full = cells(ServiceTimes((256,), (0.3,), 0.025), 8)
    failed = tuple(dataclasses.replace(each, failure="busy") for each in full.samples)
    whole = tuple(dataclasses.replace(each, chunk_s=()) for each in single.samples)
    for pair in (
        (single, dataclasses.replace(full, samples=failed)),
        (dataclasses.replace(single, samples=whole), full),
    ):
        with pytest.raises(Inf2KitError, match="they must be streamed, succeed"):
            fit(SUBJECT, *pair, {}, TRIP_S)
