"""Metrics of recorded timelines, exactly; numpy says what a percentile is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inf2kit.bench.load.metrics import (
    METRICS,
    PERCENTILES,
    Window,
    count_failures,
    measure,
    percentile,
    summarize,
    values_of,
)
from inf2kit.bench.load.samples import CANCELLED, Cell, Load, Sample


def sample(number: int, sent_s: float, end_s: float, tokens: int = 4, **values: Any) -> Sample:
    """A call whose pieces come at equal distances, the first after half of its time."""
    values = {"due_s": sent_s, "input_tokens": 10, "generated_tokens": tokens, **values}
    middle_s = (sent_s + end_s) / 2
    gap_s = (end_s - middle_s) / (tokens - 1) if tokens > 1 else 0.0
    chunks = tuple(middle_s + gap_s * place for place in range(tokens))
    return Sample(number, sent_s=sent_s, end_s=end_s, **{"chunk_s": chunks, **values})


def cell(load: Load, samples: list[Sample], stop_s: float = 10.0) -> Cell:
    return Cell(load, tuple(samples), "2026-01-01T00:00:00+00:00", stop_s, streamed=True)


#: Two callers, calls of 2 s one after the other from 0 to 10 s.
CLOSED = cell(
    Load("callers", 2),
    [sample(2 * step + caller, 2.0 * step, 2.0 * step + 2) for step in range(5) for caller in range(2)],
    stop_s=8.0,
)


def test_a_closed_loop_of_two_callers() -> None:
    window = Window.of(CLOSED)
    assert (window.begin_s, window.end_s, window.is_whole) == (2.0, 8.0, False)
    statistics = measure(CLOSED, {"ttft": 1.5, "latency": 3.0})
    averages = {tag: round(statistic.avg, 9) for tag, statistic in statistics.items()}
    assert averages == {
        "time_to_first_token": 1.0,
        "inter_token_latency": pytest.approx(1 / 3),
        "inter_chunk_latency": pytest.approx(1 / 3),
        "request_latency": 2.0,
        "input_sequence_length": 10.0,
        "output_sequence_length": 4.0,
        "output_token_throughput_per_user": 3.0,
        "e2e_output_token_throughput": 2.0,
        "output_token_throughput": 4.0,  # 6 answers of 4 tokens in 6 s
        "request_throughput": 1.0,
        "goodput": 1.0,
        "good_request_fraction": 1.0,
        "request_count": 6.0,
        "error_request_count": 0.0,
        "benchmark_duration": 6.0,
    }
    assert set(averages) == set(METRICS)
    assert window.in_flight(CLOSED) == 2.0


def test_a_late_send_is_counted_and_an_open_loop_counts_calls_by_when_they_were_due() -> None:
    samples = [
        sample(0, 0.5, 1.0),
        sample(1, 3.0, 6.0, due_s=2.0),
        sample(2, 9.0, 14.0),  # due in the window, and ended after it
    ]
    loop = cell(Load("rate", 0.3), samples)
    window = Window.of(loop)
    assert (window.begin_s, window.end_s) == (1.0, 9.0)
    assert [each.number for each in window.counted(loop)] == [1, 2]
    statistics = measure(loop, {})
    assert statistics["request_latency"].max == 5.0
    assert statistics["request_latency"].min == 4.0, "from 2 s on, when it was due"
    assert statistics["request_throughput"].avg == 1 / 8, "one of them ended in the window"


def test_failures_are_in_no_percentile_and_in_goodput() -> None:
    failed = sample(9, 5.0, 5.1, failure="busy: queue_full", message="full")
    cancelled = sample(10, 5.0, 9.0, failure=CANCELLED)
    loop = cell(CLOSED.load, [*CLOSED.samples, failed, cancelled], stop_s=8.0)
    statistics = measure(loop, {"latency": 1.9})
    assert statistics["request_latency"].count == 6
    assert statistics["error_request_count"].avg == 1
    assert statistics["goodput"].avg == 0
    assert measure(loop, {"latency": 2.1})["good_request_fraction"].avg == 6 / 7
    assert count_failures(loop.ended) == {"busy: queue_full": 1}


def test_what_a_call_cannot_have_is_left_out() -> None:
    whole = sample(0, 0.0, 2.0, chunk_s=())
    one_token = sample(1, 0.0, 2.0, tokens=1)
    assert values_of("time_to_first_token", [whole, one_token]) == [1.0]
    for tag in ("inter_token_latency", "inter_chunk_latency", "output_token_throughput_per_user"):
        assert values_of(tag, [whole, one_token]) == []
    statistics = measure(cell(Load("callers", 1), [], stop_s=3.0), {"latency": 1.0})
    assert statistics["request_count"].avg == 0
    assert "good_request_fraction" not in statistics


def test_a_cell_that_is_too_short_is_taken_whole() -> None:
    short = cell(Load("callers", 2), [sample(0, 0.0, 2.0), sample(1, 0.0, 3.0)])
    assert Window.of(short) == Window(0.0, 3.0, is_whole=True)
    assert measure(short, {})["request_throughput"].avg == pytest.approx(2 / 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_numpys(values: list[float]) -> None:
    for number in PERCENTILES:
        assert math.isclose(percentile(sorted(values), number), np.percentile(values, number), abs_tol=1e-6)


def test_a_percentile_needs_enough_values() -> None:
    few, many = summarize("s", [1.0] * 99), summarize("s", [1.0] * 100)
    assert few
    assert many
    assert few.percentile(99) is None
    assert many.percentile(99) == 1.0
    assert few.percentile(95) == few.percentile(50) == 1.0
    assert summarize("s", []) is None
