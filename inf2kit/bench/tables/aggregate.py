"""From samples to the three tables, each cell beside the published one."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from inf2kit.bench.tables.protocol import ENCODING, END_TO_END, Cell, why_too_short
from inf2kit.bench.tables.samples import Measurement, Sample
from inf2kit.catalog.tables import PublishedTables, published_tables
from inf2kit.serving.shapes import StaticShapes


@dataclass(frozen=True)
class Entry:
    """One cell of one table.

    Attributes:
        input_tokens: Tokens of the prompt.
        new_tokens: New tokens of each row.
        unit: ``s`` or ``tokens/s``.
        good: Number of runs whose lengths were right; only these count.
        median: Their median; None without any.
        min: The least of them.
        max: The largest of them.
        published: The published figure, or None.
        ratio: The median, less the round trip, by the published figure; None without one of them.
        remarks: What is wrong with the cell, or how it was measured otherwise.
    """

    input_tokens: int
    new_tokens: int
    unit: str
    good: int
    median: float | None
    min: float | None
    max: float | None
    published: float | None
    ratio: float | None
    remarks: tuple[str, ...]

    @property
    def is_marked(self) -> bool:
        """Whether there is something to know about the cell."""
        return bool(self.remarks)


@dataclass(frozen=True)
class Tables:
    """The tables of one measurement, in the order of their columns' lengths.

    Attributes:
        encoding: Seconds to the first token of all rows: the whole answer with one new token.
        end_to_end: Seconds of a whole answer.
        throughput: ``batch_size x (input + new tokens) / latency``, the convention of the published tables.
        output_token_throughput: ``batch_size x new tokens / latency``, the convention of later pages. What
            stands beside it as published is computed from the published latency.
        round_trip_s: The median of the network's round trips, which every latency includes; None without
            a network.
    """

    encoding: tuple[Entry, ...]
    end_to_end: tuple[Entry, ...]
    throughput: tuple[Entry, ...]
    output_token_throughput: tuple[Entry, ...]
    round_trip_s: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the values of a JSON object."""
        return dataclasses.asdict(self)


def aggregate(measurement: Measurement) -> Tables:
    """Return the tables of a measurement."""
    published = published_tables().get(measurement.preset)
    trips = measurement.round_trips_s
    round_trip_s = statistics.median(trips) if trips else None
    row = _Row(measurement, round_trip_s or 0.0)
    rows = measurement.batch_size
    end_to_end_s = _column(published, "end_to_end_s")
    return Tables(
        encoding=row.entries(ENCODING, "s", [None] * 3, _column(published, "encoding_s")),
        end_to_end=row.entries(END_TO_END, "s", [None] * 3, end_to_end_s),
        throughput=row.entries(
            END_TO_END,
            "tokens/s",
            [rows * (cell.input_tokens + cell.new_tokens) for cell in END_TO_END],
            _column(published, "throughput"),
        ),
        output_token_throughput=row.entries(
            END_TO_END,
            "tokens/s",
            [rows * cell.new_tokens for cell in END_TO_END],
            [
                seconds and rows * cell.new_tokens / seconds
                for cell, seconds in zip(END_TO_END, end_to_end_s, strict=True)
            ],
        ),
        round_trip_s=round_trip_s,
    )


class _Row:
    """Computes the entries of one table's row."""

    def __init__(self, measurement: Measurement, round_trip_s: float) -> None:
        self._measurement, self._round_trip_s = measurement, round_trip_s
        self._shapes = StaticShapes.resolve(
            measurement.batch_size, measurement.sequence_length, measurement.max_context_length
        )

    def entries(
        self,
        cells: Sequence[Cell],
        unit: str,
        tokens: Sequence[int | None],
        published: Sequence[float | None],
    ) -> tuple[Entry, ...]:
        return tuple(
            self._entry(cell, unit, count, figure)
            for cell, count, figure in zip(cells, tokens, published, strict=True)
        )

    def _entry(self, cell: Cell, unit: str, tokens: int | None, published: float | None) -> Entry:
        """Compute a cell: seconds, or with ``tokens`` these by seconds."""
        samples = [
            sample
            for sample in self._measurement.samples
            if (sample.input_tokens, sample.new_tokens) == (cell.input_tokens, cell.new_tokens)
        ]
        problems = [sample.problem(self._measurement.batch_size) for sample in samples]
        seconds = [
            sample.latency_s
            for sample, problem in zip(samples, problems, strict=True)
            if not problem and sample.latency_s is not None
        ]
        values = [tokens / each for each in seconds] if tokens else seconds
        ratio = None
        if seconds and published:
            net_s = max(statistics.median(seconds) - self._round_trip_s, 0.0)
            ratio = (tokens / net_s if net_s else None) if tokens else net_s
            ratio = None if ratio is None else ratio / published
        return Entry(
            cell.input_tokens,
            cell.new_tokens,
            unit,
            good=len(seconds),
            median=statistics.median(values) if values else None,
            min=min(values, default=None),
            max=max(values, default=None),
            published=published,
            ratio=ratio,
            remarks=self._remarks(cell, samples, problems),
        )

    def _remarks(self, cell: Cell, samples: Sequence[Sample], problems: Sequence[str]) -> tuple[str, ...]:
        remarks = [
            f"{problems.count(problem)} of {len(problems)} runs: {problem}"
            for problem in dict.fromkeys(filter(None, problems))
        ]
        if any(sample.streamed for sample in samples):
            rows = self._measurement.batch_size
            remarks.append(
                f"streamed, {rows} calls at once rather than one with {rows} prompts"
                if rows > 1
                else "streamed rather than as a whole answer"
            )
        if reason := self._measurement.left_out.get(cell.key):
            remarks.append(reason)
        elif not samples:
            remarks.append(why_too_short(cell, self._shapes) or "not measured: the benchmark was interrupted")
        return tuple(remarks)


def _column(published: PublishedTables | None, table: str) -> Sequence[float | None]:
    return [None] * 3 if published is None else getattr(published, table)
