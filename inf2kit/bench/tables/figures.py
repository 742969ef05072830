"""The tables as bar charts in the form of the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inf2kit.bench import charts
from inf2kit.bench.tables.aggregate import Entry, Tables, aggregate
from inf2kit.bench.tables.samples import Measurement

#: The charts: file, table, title, what the groups are, what the bars are.
_CHARTS = (
    ("encoding", "Encoding time", "input tokens", "seconds"),
    ("end_to_end", "End-to-end latency", "new tokens, after 256 input tokens", "seconds"),
    ("throughput", "Throughput", "new tokens", "input and new tokens/s"),
)


def draw_charts(measurements: Sequence[Measurement], folder: Path) -> list[Path]:
    """Write three charts, each as PNG and as SVG.

    Args:
        measurements: One has its figures beside the published ones; several have a bar for each of them.
        folder: Where to write; it must exist.

    Returns:
        The files.
    """
    notices = dict.fromkeys(notice for measurement in measurements for notice in measurement.notices)
    runs = min(measurement.runs for measurement in measurements)
    medians = f"medians of {runs} runs" if runs > 1 else "one run"
    notice = "; ".join((*notices, medians)) + "."
    names = {measurement.preset or measurement.name for measurement in measurements}
    subject = f" of {names.pop()}" if len(names) == 1 else ""
    tables = {_label(each, measurements): aggregate(each) for each in measurements}
    files = []
    for name, title, groups, unit in _CHARTS:
        series = _series(name, tables)
        lengths = [_length(entry) for entry in getattr(next(iter(tables.values())), name)]
        with charts.chart(f"{title}{subject}", notice=notice) as (figure, (axes,)):
            charts.draw_bars(axes, lengths, series, groups, unit)
            files += charts.save(figure, folder / name)
    return files


def _series(name: str, tables: Mapping[str, Tables]) -> dict[str, list[float | None]]:
    entries: dict[str, Sequence[Entry]] = {label: getattr(each, name) for label, each in tables.items()}
    series = {label: [entry.median for entry in row] for label, row in entries.items()}
    if len(tables) == 1:
        (row,) = entries.values()
        published = [entry.published for entry in row]
        series = {"measured": [entry.median for entry in row]}
        if any(published):
            series["published"] = published
    return series


def _label(measurement: Measurement, others: Sequence[Measurement]) -> str:
    """The preset's name, or the endpoint's where several have the same preset."""
    presets = [other.preset for other in others]
    if measurement.preset and presets.count(measurement.preset) == 1:
        return measurement.preset
    return measurement.name


def _length(entry: Entry) -> str:
    return str(entry.input_tokens if entry.new_tokens == 1 else entry.new_tokens)
