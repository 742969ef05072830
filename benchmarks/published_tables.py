"""``python -m benchmarks.published_tables``: the presets at the published speed, measured by our own command.

Each preset is started with ``inf2kit local up --speed published`` and measured with ``inf2kit bench tables``.
If the published tables come back, its protocol and its arithmetic are theirs. It takes ten minutes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import inf2kit
from inf2kit.bench.tables.aggregate import Entry, aggregate
from inf2kit.bench.tables.output import RESULT
from inf2kit.bench.tables.samples import Measurement
from inf2kit.catalog.tables import published_tables
from inf2kit.names import endpoint_name

_FOLDER = Path("build/bench/published-tables")
_PAGE = Path("docs/measuring.md")
_BEGIN, _END = "<!-- published tables: begin -->", "<!-- published tables: end -->"
_INF2KIT = Path(sys.executable).with_name("inf2kit")
_TITLES = {
    "encoding": "Encoding time in s, by input tokens",
    "end_to_end": "End-to-end latency in s, by new tokens",
    "throughput": "Throughput in input and new tokens/s, by new tokens",
}


def main() -> None:
    """Measure, and print or write how far the tables are from the published ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published_tables", description=__doc__)
    parser.add_argument("--only", help="some of the presets, with commas between")
    parser.add_argument("--runs", type=int, default=3, help="calls for each cell (default: 3)")
    parser.add_argument("--write-docs", action="store_true", help=f"write {_PAGE} from the last results")
    options = parser.parse_args()
    presets = options.only.split(",") if options.only else sorted(published_tables())
    for preset in presets:
        measure(preset, options.runs)
    measurements = [
        Measurement.read(_FOLDER / preset / RESULT)
        for preset in sorted(published_tables())
        if (_FOLDER / preset / RESULT).exists()
    ]
    page = compare(measurements)
    print(page)
    if options.write_docs:
        text = _PAGE.read_text(encoding="utf-8")
        block = f"{_BEGIN}\n\n{page}\n{_END}"
        _PAGE.write_text(
            re.sub(f"{_BEGIN}.*{_END}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8"
        )


def measure(preset: str, runs: int) -> None:
    """Start an endpoint at the published speed, measure it, and stop it."""
    folder, name = _FOLDER / preset, endpoint_name(preset)
    (folder / RESULT).unlink(missing_ok=True)
    subprocess.run([_INF2KIT, "local", "up", preset, "--speed", "published"], check=True)
    try:
        command = [_INF2KIT, "bench", "tables", name, "--runs", str(runs), "--output", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run([_INF2KIT, "local", "down", name], check=True)


def compare(measurements: Sequence[Measurement]) -> str:
    """Return the three tables as Markdown: each cell measured, published and by how much they differ."""
    all_tables = {each.preset: aggregate(each) for each in measurements}
    first = measurements[0]
    trips = [tables.round_trip_s or 0.0 for tables in all_tables.values()]
    runs = min(each.runs for each in measurements)
    lines = [
        f"Measured {first.measured[:10]} on {first.machine}, inf2kit {inf2kit.__version__}: **simulated**, "
        f"made-up tokens at the published speed, no Neuron device. Medians of {runs} runs less the round "
        f"trip, which was {min(trips) * 1000:.0f} to {max(trips) * 1000:.0f} ms; in brackets the published "
        "figure.",
    ]
    for table, title in _TITLES.items():
        names = [preset.removeprefix("llama2-") for preset in all_tables]
        lines += ["", f"| {title} | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
        columns: list[Sequence[Entry]] = [getattr(tables, table) for tables in all_tables.values()]
        for row in zip(*columns, strict=True):
            length = row[0].input_tokens if table == "encoding" else row[0].new_tokens
            lines.append(f"| {length} | {' | '.join(_cell(entry) for entry in row)} |")
        worst = [f"{_worst(column):.1%}" for column in columns]
        lines.append(f"| largest difference | {' | '.join(worst)} |")
        if table != "throughput":
            printed = [f"{sum(map(_prints_alike, column))} of {len(column)}" for column in columns]
            lines.append(f"| rounded as published | {' | '.join(printed)} |")
    entries = [entry for tables in all_tables.values() for entry in tables.encoding]
    added_s = [_net(entry) - entry.published for entry in entries if entry.ratio and entry.published]
    if added_s:
        lines += [
            "",
            f"An encoding time has {1000 * min(added_s):.0f} to {1000 * max(added_s):.0f} ms more than the "
            "simulated device takes, whatever its length: that is the stack. The published figures are "
            "rounded to 0.1 s, so that 0.3 s may have been 17 % more or less.",
        ]
    return "\n".join(lines) + "\n"


def _worst(entries: Sequence[Entry]) -> float:
    """The largest difference from the published figures, as a share of them."""
    return max(abs(entry.ratio - 1) if entry.ratio else 1.0 for entry in entries)


def _net(entry: Entry) -> float:
    """The figure that the ratio is of: measured, less the round trip."""
    return (entry.ratio or 0.0) * (entry.published or 0.0)


def _prints_alike(entry: Entry) -> bool:
    """Whether a latency is the published one, which was printed with one digit after the point."""
    return f"{_net(entry):.1f}" == f"{entry.published:.1f}"


def _cell(entry: Entry) -> str:
    if entry.ratio is None or entry.published is None:
        return "; ".join(entry.remarks) or "-"
    figure = _net(entry)
    return (
        f"{figure:.0f} ({entry.published:.0f})" if entry.unit != "s" else f"{figure:.2f} ({entry.published})"
    )


if __name__ == "__main__":
    main()
