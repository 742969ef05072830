"""From samples to figures, under AIPerf's names, each with its formula."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from inf2kit.bench.load.samples import Cell, Sample

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        unit: Its unit.
        formula: How it is computed, of one call unless it says otherwise.
    """

    unit: str
    formula: str


#: Every metric by AIPerf's tag. ``docs/measuring.md`` has this table.
METRICS = {
    "time_to_first_token": Metric("s", "first text - when the call was due; streamed answers only"),
    "inter_token_latency": Metric(
        "s", "(request_latency - time_to_first_token) / (output_sequence_length - 1); streamed answers only"
    ),
    "inter_chunk_latency": Metric(
        "s", "each gap between two pieces of a streamed text, of all calls together: a stall is visible here"
    ),
    "request_latency": Metric("s", "end of the answer - when the call was due"),
    "input_sequence_length": Metric("tokens", "input tokens, as the server counts them"),
    "output_sequence_length": Metric("tokens", "new tokens, as the server counts them"),
    "output_token_throughput_per_user": Metric("tokens/s", "1 / inter_token_latency"),
    "e2e_output_token_throughput": Metric("tokens/s", "output_sequence_length / request_latency"),
    "output_token_throughput": Metric(
        "tokens/s", "new tokens of all answers that ended in the window / the window's seconds"
    ),
    "request_throughput": Metric("requests/s", "answers that ended in the window / the window's seconds"),
    "goodput": Metric(
        "requests/s", "answers that ended in the window and met every limit of --slo / the window's seconds"
    ),
    "good_request_fraction": Metric(
        "ratio", "answers that met every limit of --slo / all calls of the window, failures included"
    ),
    "request_count": Metric("requests", "answers of the window"),
    "error_request_count": Metric("requests", "failed calls of the window"),
    "benchmark_duration": Metric("s", "the window's seconds"),
}
#: What each limit of ``--slo`` bounds.
SLO_METRICS = {
    "ttft": "time_to_first_token",
    "itl": "inter_token_latency",
    "latency": "request_latency",
}


@dataclass(frozen=True)
class Window:
    """The part of a cell that counts. Warm-up and tail are cut by rule.

    Attributes:
        begin_s: Closed loop: when each caller has ended its first call. Open loop: a tenth of the cell, but
            not before the first call has ended.
        end_s: When the last call was sent; later, the load falls.
        is_whole: Whether nothing could be cut, because the cell is too short.
    """

    begin_s: float
    end_s: float
    is_whole: bool = False

    @classmethod
    def of(cls, cell: Cell) -> Window:
        """Find the window of a cell."""
        ended = sorted(sample.end_s for sample in cell.ended)
        if not ended:
            return cls(0.0, cell.stop_s, is_whole=True)
        callers = 1 if cell.load.is_open else int(cell.load.value)
        begin_s = ended[min(callers, len(ended)) - 1]
        if cell.load.is_open:
            begin_s = max(begin_s, 0.1 * cell.stop_s)
        end_s = max(sample.sent_s for sample in cell.samples)
        if end_s <= begin_s or not any(begin_s < at <= end_s for at in ended):
            return cls(0.0, max(ended[-1], cell.stop_s if cell.load.is_open else 0.0), is_whole=True)
        return cls(begin_s, end_s)

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end_s - self.begin_s

    def ended(self, cell: Cell) -> list[Sample]:
        """The calls that ended in it: those that rates count."""
        return [sample for sample in cell.ended if self.begin_s < sample.end_s <= self.end_s]

    def counted(self, cell: Cell) -> list[Sample]:
        """The calls that percentiles count: of an open loop those that were due in it, however long."""
        if not cell.load.is_open:
            return self.ended(cell)
        return [sample for sample in cell.ended if self.begin_s <= sample.due_s <= self.end_s]

    def in_flight(self, cell: Cell) -> float:
        """Mean number of calls in flight."""
        overlaps = (
            min(sample.end_s, self.end_s) - max(sample.due_s, self.begin_s) for sample in cell.samples
        )
        return sum(overlap for overlap in overlaps if overlap > 0) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Statistic:
    """A metric of a cell.

    Attributes:
        unit: Its unit.
        avg: Its mean, or its only value.
        count: Number of values; 0 for a figure of the whole cell.
        std: Standard deviation.
        min: The smallest value.
        max: The largest value.
        percentiles: By number, such as 95.
    """

    unit: str
    avg: float
    count: int = 0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    percentiles: dict[int, float] | None = None

    def percentile(self, number: int) -> float | None:
        """Return a percentile, or None if there are too few values to have one.

        The 99th of fewer than 100 values would be little more than their largest one.
        """
        if self.percentiles is None or self.count * min(number, 100 - number) < 100:
            return None if number != 50 or self.percentiles is None else self.percentiles[50]
        return self.percentiles[number]


def percentile(ordered: Sequence[float], number: float) -> float:
    """Return a percentile of ascending values, linear between two of them, as numpy's default is.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values have no percentile")
    place = (len(ordered) - 1) * number / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def summarize(unit: str, values: Sequence[float]) -> Statistic | None:
    """Return the statistic of some values; None without one."""
    if not values:
        return None
    ordered = sorted(values)
    return Statistic(
        unit,
        avg=statistics.fmean(ordered),
        count=len(ordered),
        std=statistics.pstdev(ordered),
        min=ordered[0],
        max=ordered[-1],
        percentiles={number: percentile(ordered, number) for number in PERCENTILES},
    )


def values_of(metric: str, samples: Sequence[Sample]) -> list[float]:
    """Return the values of a metric that each call has, of the answers among some calls.

    Raises:
        KeyError: the metric is one of whole cells.
    """
    answers = [sample for sample in samples if sample.failure is None]
    if metric == "inter_chunk_latency":
        return [
            later - earlier
            for sample in answers
            for earlier, later in zip(sample.chunk_s, sample.chunk_s[1:], strict=False)
        ]
    compute = {
        "time_to_first_token": lambda sample: sample.first_s,
        "inter_token_latency": _inter_token,
        "request_latency": lambda sample: sample.latency_s,
        "input_sequence_length": lambda sample: sample.input_tokens,
        "output_sequence_length": lambda sample: sample.generated_tokens,
        "output_token_throughput_per_user": lambda sample: _inverse(_inter_token(sample)),
        "e2e_output_token_throughput": lambda sample: sample.generated_tokens / sample.latency_s,
    }[metric]
    return [float(value) for value in map(compute, answers) if value is not None]


def measure(cell: Cell, slo: dict[str, float]) -> dict[str, Statistic]:
    """Compute every metric that a cell has.

    Args:
        cell: The cell.
        slo: Limits in seconds, by the keys of ``SLO_METRICS``.

    Returns:
        Statistics by AIPerf's tag.
    """
    window = Window.of(cell)
    counted, ended = window.counted(cell), window.ended(cell)
    statistics_by_tag = {}
    for tag, metric in METRICS.items():
        try:
            values = values_of(tag, counted)
        except KeyError:
            continue
        if (statistic := summarize(metric.unit, values)) is not None:
            statistics_by_tag[tag] = statistic
    answers = [sample for sample in ended if sample.failure is None]
    seconds = window.seconds
    totals = {
        "request_count": float(sum(sample.failure is None for sample in counted)),
        "error_request_count": float(sum(sample.failure is not None for sample in counted)),
        "benchmark_duration": seconds,
    }
    if seconds > 0:
        totals["output_token_throughput"] = sum(sample.generated_tokens for sample in answers) / seconds
        totals["request_throughput"] = len(answers) / seconds
        if slo:
            totals["goodput"] = sum(is_good(sample, slo) for sample in answers) / seconds
    if slo and counted:
        totals["good_request_fraction"] = sum(is_good(sample, slo) for sample in counted) / len(counted)
    for tag, value in totals.items():
        statistics_by_tag[tag] = Statistic(METRICS[tag].unit, value)
    return statistics_by_tag


def is_good(sample: Sample, slo: dict[str, float]) -> bool:
    """Whether a call had an answer that met every limit."""
    if sample.failure is not None:
        return False
    for name, limit_s in slo.items():
        values = values_of(SLO_METRICS[name], [sample])
        # An answer of one token has no gap between tokens that could be too long.
        if any(value > limit_s for value in values) or (not values and name != "itl"):
            return False
    return True


def count_failures(samples: Sequence[Sample]) -> dict[str, int]:
    """Return the number of failures by kind, the most frequent first."""
    return dict(Counter(sample.failure for sample in samples if sample.failure is not None).most_common())


def _inter_token(sample: Sample) -> float | None:
    if sample.first_s is None or sample.generated_tokens < 2:
        return None
    return (sample.latency_s - sample.first_s) / (sample.generated_tokens - 1)


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None
