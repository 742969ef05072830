"""The tables as Markdown, as CSV, and in the form of optimum-neuron's own benchmark."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from inf2kit.bench.charts import short
from inf2kit.bench.tables.aggregate import Entry, Tables
from inf2kit.bench.tables.samples import Measurement
from inf2kit.catalog.tables import SOURCE

#: The tables with their titles, what a line is called, and what is printed above.
_TABLES = (
    ("encoding", "Encoding time", "input tokens", "seconds to the first token of all rows"),
    ("end_to_end", "End-to-end latency", "new tokens", "seconds"),
    ("throughput", "Throughput, input and new tokens", "new tokens", "tokens/s, as published"),
    ("output_token_throughput", "Throughput, new tokens only", "new tokens", "tokens/s"),
)
_COLUMNS = ("table", "input_tokens", "new_tokens", "unit", "good_runs", "median", "min", "max")
_CONDITIONS = ("endpoint", "preset", "batch_size", "runs", "measured", "notice")


def markdown(measurement: Measurement, tables: Tables) -> str:
    """Return a page with the conditions and the tables."""
    rows = measurement.batch_size
    lines = [f"# Tables of {measurement.name}", ""]
    if measurement.notice:
        lines += [f"**{measurement.notice}.**", ""]
    lines += [
        f"{measurement.preset or 'no preset'}; {_count(rows, 'row')} of "
        f"{measurement.sequence_length} tokens; "
        f"{measurement.where}; measured {measurement.measured} from {measurement.machine}, "
        f"inf2kit {measurement.version}.",
        "",
        "Each call has the same prompt in every row and a fixed length. The figures are medians of "
        f"{_count(measurement.runs, 'run')} after a warm-up. {_round_trip(tables.round_trip_s)}",
    ]
    notes: list[str] = []
    for name, title, column, unit in _TABLES:
        lines += ["", f"## {title}", "", *_table(getattr(tables, name), column, unit, notes)]
    published = f"Published: {SOURCE}, first version. Ratio: measured, less the round trip, by published."
    shortest_s = min((entry.published for entry in tables.encoding if entry.published), default=None)
    if shortest_s:
        published += (
            f" Published seconds are rounded to 0.1, so that a ratio to {shortest_s:g} s is known to "
            f"±{0.05 / shortest_s:.0%}."
        )
    computed = (
        "Of new tokens alone nothing was published; that column is computed from the published latency."
    )
    if any(entry.published for entry in tables.end_to_end):
        lines += ["", published, computed]
    if notes:
        lines += ["", *(f"[{number}] {note}." for number, note in enumerate(notes, 1))]
    return "\n".join(lines) + "\n"


def csv_text(measurement: Measurement, tables: Tables) -> str:
    """Return a line for each cell, with the conditions in each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_COLUMNS, "published", "ratio", "remarks", *_CONDITIONS])
    conditions = (measurement.name, measurement.preset, measurement.batch_size, measurement.runs)
    for name, *_ in _TABLES:
        for entry in getattr(tables, name):
            figures = (entry.good, entry.median, entry.min, entry.max, entry.published, entry.ratio)
            writer.writerow(
                [
                    *(name, entry.input_tokens, entry.new_tokens, entry.unit),
                    *("" if figure is None else figure for figure in figures),
                    "; ".join(entry.remarks),
                    *(*conditions, measurement.measured, measurement.notice),
                ]
            )
    return stream.getvalue()


def optimum_json(measurement: Measurement, tables: Tables) -> str:
    """Return the form that optimum-neuron's benchmark writes, with the notice beside it.

    ``generations`` has seconds, and input and new tokens a second, as its ``gen_barcharts.py`` reads them.
    Beside the encoding time stand milliseconds a token and new tokens a second, as its later
    ``benchmark.py`` writes them, for the one input length of which they are measured.
    Cells without a figure are left out.
    """
    results: list[dict[str, Any]] = []
    rows = measurement.batch_size
    for entry in tables.encoding:
        if entry.median is None:
            continue
        result: dict[str, Any] = {
            "input_length": entry.input_tokens,
            "batch_size": rows,
            "encoding_time": entry.median,
            "generations": [],
        }
        ends = [end for end in tables.end_to_end if end.input_tokens == entry.input_tokens]
        for end, throughput in zip(ends, tables.throughput, strict=False):
            if end.median is not None:
                generation = {"new_tokens": end.new_tokens, "latency": end.median}
                result["generations"].append({**generation, "throughput": throughput.median})
        if ends and ends[0].median is not None:
            new_tokens, latency_s = ends[0].new_tokens, ends[0].median
            result |= {
                "new_tokens": new_tokens,
                "latency": (latency_s - entry.median) / new_tokens * 1000,
                "throughput": new_tokens * rows / latency_s,
            }
        results.append(result)
    config = {
        "batch_size": rows,
        "sequence_length": measurement.sequence_length,
        "checkpoint_id": measurement.preset,
    }
    value = {"neuron_config": config, "results": results, "notice": measurement.notice}
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def _table(entries: Sequence[Entry], column: str, unit: str, notes: list[str]) -> list[str]:
    headings = [column, unit, "least to largest", "runs"]
    has_published = any(entry.published is not None for entry in entries)
    if has_published:
        headings += ["published", "ratio"]
    lines = [f"| {' | '.join(headings)} |", "|" + "---:|" * len(headings)]
    for entry in entries:
        marks = []
        for remark in entry.remarks:
            if remark not in notes:
                notes.append(remark)
            marks.append(f"[{notes.index(remark) + 1}]")
        length = entry.input_tokens if entry.new_tokens == 1 else entry.new_tokens
        cells = [
            f"{length}",
            f"{_figure(entry.median)} {' '.join(marks)}".strip(),
            "-" if entry.min is None else f"{_figure(entry.min)} to {_figure(entry.max)}",
            f"{entry.good}",
        ]
        if has_published:
            cells += [_figure(entry.published), "-" if entry.ratio is None else f"{entry.ratio:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _round_trip(seconds: float | None) -> str:
    if seconds is None:
        return "There is no network between caller and engine."
    return (
        f"Network round trip: {seconds * 1000:.1f} ms, the median of calls that are refused before any work. "
        "Every latency includes it."
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else short(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
