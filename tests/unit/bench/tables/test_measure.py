"""Measuring: order, warm-up, streams for long calls, and callers that lie or fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from inf2kit.bench.tables.aggregate import aggregate
from inf2kit.bench.tables.figures import draw_charts
from inf2kit.bench.tables.measure import Bench, Step
from inf2kit.bench.tables.protocol import PROTOCOL, Cell
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointBusyError, EndpointTimeoutError, Inf2KitError
from tests.helpers.recorded_tables import ROWS, measurement


class CallerDouble:
    """A double of an endpoint: a word is a token, and answers come at once."""

    def __init__(self, whole_limit_s: float | None = None) -> None:
        self.whole_limit_s = whole_limit_s
        self.calls: list[tuple[int, Cell, bool]] = []

    def count(self, text: str) -> int:
        return 1 + len(text.split())

    def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
        self.calls.append((self.count(prompt), cell, stream))
        return [self.answer(prompt, cell) for _ in range(rows)]

    def answer(self, prompt: str, cell: Cell) -> TextResult:
        return TextResult(
            "", "length", self.count(prompt), cell.new_tokens, warnings=("simulated: a double",)
        )

    def round_trip_s(self) -> float | None:
        return 0.001


class LyingDouble(CallerDouble):
    """A double that ends long answers early and counts a token too many in long prompts."""

    def answer(self, prompt: str, cell: Cell) -> TextResult:
        honest = super().answer(prompt, cell)
        return dataclasses.replace(
            honest,
            generated_tokens=min(cell.new_tokens, 371),
            input_tokens=honest.input_tokens + (honest.input_tokens > 600),
        )


def test_each_run_makes_every_call_of_the_protocol_with_exact_prompts() -> None:
    caller, result = CallerDouble(), measurement([], runs=2)
    steps: list[Step] = []
    Bench(caller, result, report=steps.append).run()
    assert [(sample.run, sample.input_tokens, sample.new_tokens) for sample in result.samples] == [
        (run, cell.input_tokens, cell.new_tokens) for run in (1, 2) for cell in PROTOCOL
    ]
    assert all(tokens == cell.input_tokens for tokens, cell, _ in caller.calls)
    assert all(sample.problem(ROWS) == "" for sample in result.samples)
    assert "simulated: a double" in result.notices
    assert result.round_trips_s == [0.001] * 7
    assert [step.done for step in steps[-12:]] == list(range(12))
    assert steps[-1].left_s is not None
    assert str(steps[-1]).startswith("11 of 12: run 2 of 2: 768 new tokens after 256; ")


def test_a_lying_endpoint_is_marked_cell_by_cell() -> None:
    result = measurement([])
    Bench(LyingDouble(), result).run()
    tables = aggregate(result)
    assert [entry.good for entry in tables.encoding] == [1, 1, 0]
    assert "769 input tokens instead of 768" in tables.encoding[2].remarks[0]
    assert [entry.good for entry in tables.end_to_end] == [1, 0, 0]
    assert "371 new tokens instead of 512" in tables.end_to_end[1].remarks[0]


@pytest.mark.parametrize("long", ["stream", "skip"])
def test_calls_that_would_come_too_late_are_streamed_or_skipped(long: str) -> None:
    # With a limit of 0 s, every call is expected to come too late.
    caller, result = CallerDouble(whole_limit_s=0.0), measurement([])
    Bench(caller, result, long=long).run()
    entries = aggregate(result).end_to_end
    if long == "stream":
        assert all(sample.streamed for sample in result.samples)
        assert all(entry.good and "streamed, 4 calls at once" in entry.remarks[0] for entry in entries)
    else:
        assert result.samples == []
        assert all("a whole answer must come within 0 s" in entry.remarks[0] for entry in entries)


def test_an_endpoint_too_slow_for_whole_answers_is_measured_by_streams() -> None:
    class SlowDouble(CallerDouble):
        def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
            if not stream:
                raise EndpointTimeoutError("no answer in time")
            return super().call(prompt, rows, cell, stream=stream)

    # With a limit of 0 s, every failure has taken too long.
    result = measurement([])
    Bench(SlowDouble(whole_limit_s=0.0), result).run()
    assert [sample.problem(ROWS) for sample in result.samples] == [""] * 6
    assert all(sample.streamed for sample in result.samples)
    with pytest.raises(EndpointTimeoutError):
        Bench(SlowDouble(whole_limit_s=55.0), measurement([])).run()


def test_a_call_that_fails_is_a_sample_and_the_others_go_on() -> None:
    class FailingDouble(CallerDouble):
        def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
            if cell.new_tokens == 512:
                raise EndpointBusyError("it is full")
            return super().call(prompt, rows, cell, stream=stream)

    result = measurement([])
    Bench(FailingDouble(), result).run()
    assert [sample.error for sample in result.samples] == ["", "", "", "", "it is full", ""]
    assert aggregate(result).end_to_end[1].remarks == ("1 of 1 runs: failed: it is full",)


def test_an_endpoint_that_does_not_answer_at_all_is_an_error() -> None:
    class SilentDouble(CallerDouble):
        def count(self, _: str) -> int:
            raise EndpointBusyError("it is full")

    with pytest.raises(EndpointBusyError, match="it is full"):
        Bench(SilentDouble(), measurement([])).run()


def test_an_interruption_keeps_the_samples() -> None:
    class InterruptedDouble(CallerDouble):
        def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
            if cell.new_tokens == 512:
                raise KeyboardInterrupt
            return super().call(prompt, rows, cell, stream=stream)

    result = measurement([])
    with pytest.raises(KeyboardInterrupt):
        Bench(InterruptedDouble(), result).run()
    assert len(result.samples) == 4
    assert aggregate(result).end_to_end[2].remarks == ("not measured: the benchmark was interrupted",)


def test_short_rows_leave_cells_out() -> None:
    result = measurement([], sequence_length=520, max_context_length=519)
    Bench(CallerDouble(), result).run()
    assert [(sample.input_tokens, sample.new_tokens) for sample in result.samples] == [
        (256, 1),
        (512, 1),
        (256, 256),
    ]
    with pytest.raises(Inf2KitError, match="has rows of 200 tokens, too short for every cell"):
        Bench(CallerDouble(), measurement([], sequence_length=200, max_context_length=199)).run()


def test_charts_of_one_and_of_several_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = draw_charts([measurement()], tmp_path)
    assert sorted(path.name for path in files) == sorted(
        f"{name}.{suffix}" for name in ("encoding", "end_to_end", "throughput") for suffix in ("png", "svg")
    )
    others = [measurement(name=f"endpoint-{number}", samples=[]) for number in range(3)]
    assert draw_charts([measurement(), *others], tmp_path) == files
