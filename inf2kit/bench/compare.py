"""Do two runs of a load benchmark differ by more than chance?

Calls of the same moment depend on each other, as they share an engine. So a window is divided into
consecutive parts, and the medians of the parts are compared: by the Mann-Whitney test, with a bootstrap
interval of the change. Of many comparisons some would differ by chance; Holm's method bounds the probability
of a single one.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from inf2kit.bench.load.checks import check
from inf2kit.bench.load.metrics import Window, values_of
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Cell, Sample

#: Probability of a false difference, among all comparisons together.
ALPHA = 0.05
#: Metrics of calls that are compared.
LATENCIES = ("time_to_first_token", "inter_token_latency", "request_latency")
RATE = "output_token_throughput"
#: Parts of a window; fewer than this many say nothing.
_PARTS, _FEW = 20, 8
_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """One metric of one load in two runs.

    Attributes:
        load: The load, such as ``4 callers``.
        metric: AIPerf's tag, or ``failed calls``.
        first: The first run's median; the mean of a rate; the share of failed calls.
        second: The second run's.
        change: second / first - 1; for failed calls, second - first.
        interval: The 95 % interval of the change; None for failed calls.
        p_value: Probability of such a difference by chance, corrected for the number of comparisons.
        counts: Number of parts, or of calls, in each run.
    """

    load: str
    metric: str
    first: float
    second: float
    change: float
    interval: tuple[float, float] | None
    p_value: float
    counts: tuple[int, int]

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown: chance is improbable, and the interval leaves zero out."""
        if self.p_value >= ALPHA:
            return False
        return self.interval is None or self.interval[0] > 0 or self.interval[1] < 0

    @property
    def verdict(self) -> str:
        """What the comparison says, in words."""
        if not self.is_shown:
            return "no difference shown"
        if self.metric == RATE:
            return f"{abs(self.change):.1%} {'more' if self.change > 0 else 'fewer'} tokens/s"
        if self.interval is None:
            return "more calls fail" if self.change > 0 else "fewer calls fail"
        return f"{abs(self.change):.1%} {'slower' if self.change > 0 else 'faster'}"


def compare(first: Report, second: Report, seed: int = 0) -> list[Comparison]:
    """Compare the loads that two runs have in common.

    Args:
        first: The run that is compared with.
        second: The other run.
        seed: The seed of the resampling.
    """
    cells = {str(cell.load): cell for cell in first.cells}
    generator = random.Random(seed)  # noqa: S311 - resampling, not secrets
    comparisons = [
        comparison
        for cell in second.cells
        if (before := cells.get(str(cell.load))) is not None
        for comparison in _compare_cells(before, cell, generator)
    ]
    return _correct(comparisons)


def differences(first: Report, second: Report) -> list[str]:
    """Return a sentence for each thing that makes two runs incomparable, or a figure of theirs doubtful."""
    sentences = [
        f"the runs have different {what}: {getattr(first, name)!r} and {getattr(second, name)!r}"
        for name, what in (
            ("workload", "workloads"),
            ("transport", "transports"),
            ("machine", "machines"),
            ("sampling", "places where tokens are chosen"),
            ("notices", "notices"),
        )
        if getattr(first, name) != getattr(second, name)
    ]
    sentences += [
        f"{cell.load} of the {name} run failed checks: {', '.join(names)}"
        for name, report in (("first", first), ("second", second))
        for cell in report.cells
        if (names := dict.fromkeys(finding.name for finding in check(cell)))
    ]
    return sentences


def _compare_cells(first: Cell, second: Cell, generator: random.Random) -> Iterator[Comparison]:
    from scipy import stats

    pair = (first, second)
    for metric in (*LATENCIES, RATE):
        parts = [_rates(cell) if metric == RATE else _medians(cell, metric) for cell in pair]
        middle: Callable[[Sequence[float]], float] = statistics.fmean if metric == RATE else statistics.median
        if min(map(len, parts)) < _FEW or min(map(middle, parts)) <= 0:
            continue
        before, after = map(middle, parts)
        yield Comparison(
            str(first.load),
            metric,
            before,
            after,
            after / before - 1,
            _interval(parts, middle, generator),
            float(stats.mannwhitneyu(*parts).pvalue),
            (len(parts[0]), len(parts[1])),
        )
    failed = [sum(sample.failure is not None for sample in cell.ended) for cell in pair]
    counts = (len(first.ended), len(second.ended))
    if any(failed) and all(counts):
        table = [[failed[0], counts[0] - failed[0]], [failed[1], counts[1] - failed[1]]]
        shares = (failed[0] / counts[0], failed[1] / counts[1])
        p_value = float(stats.fisher_exact(table)[1])
        yield Comparison(
            str(first.load), "failed calls", *shares, shares[1] - shares[0], None, p_value, counts
        )


def _medians(cell: Cell, metric: str) -> list[float]:
    """Medians of consecutive parts of a window's calls."""
    counted = sorted(Window.of(cell).counted(cell), key=lambda sample: sample.end_s)
    size = max(len(counted) // _PARTS, 1)
    parts = (values_of(metric, counted[start : start + size]) for start in range(0, size * _PARTS, size))
    return [statistics.median(values) for values in parts if values]


def _rates(cell: Cell) -> list[float]:
    """New tokens per second in consecutive parts of a window, each of which has some ends of calls."""
    window = Window.of(cell)
    ended = [sample for sample in window.ended(cell) if sample.failure is None]
    count = min(_PARTS, len(ended) // 2)
    if count == 0 or window.seconds <= 0:
        return []
    tokens = [0.0] * count
    for sample in cell.ended:
        for at_s, share in _arrivals(sample):
            place = int((at_s - window.begin_s) / window.seconds * count)
            if at_s >= window.begin_s and place < count:
                tokens[place] += share
    return [each * count / window.seconds for each in tokens]


def _arrivals(sample: Sample) -> Iterator[tuple[float, float]]:
    times = sample.chunk_s or (sample.end_s,)
    for at_s in times:
        yield at_s, sample.generated_tokens / len(times)


def _interval(
    parts: Sequence[Sequence[float]], middle: Callable[[Sequence[float]], float], generator: random.Random
) -> tuple[float, float]:
    """The 95 % percentile interval of the change, by resampling parts."""
    changes = []
    for _ in range(_RESAMPLES):
        before, after = (middle(generator.choices(values, k=len(values))) for values in parts)
        if before > 0:
            changes.append(after / before - 1)
    changes.sort()
    return changes[int(0.025 * len(changes))], changes[int(0.975 * len(changes))]


def _correct(comparisons: list[Comparison]) -> list[Comparison]:
    """Holm's correction: the smallest probability times the number of all, the next times one fewer."""
    corrected, highest = dict[int, float](), 0.0
    order = sorted(range(len(comparisons)), key=lambda place: comparisons[place].p_value)
    for rank, place in enumerate(order):
        highest = max(highest, min(comparisons[place].p_value * (len(comparisons) - rank), 1.0))
        corrected[place] = highest
    return [replace(each, p_value=corrected[place]) for place, each in enumerate(comparisons)]
