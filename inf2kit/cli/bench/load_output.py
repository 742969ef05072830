"""What ``inf2kit bench load`` prints and writes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inf2kit import paths
from inf2kit.cli.output import print_table

if TYPE_CHECKING:
    from inf2kit.bench.load.report import Report
    from inf2kit.bench.load.run import Progress
    from inf2kit.bench.load.samples import Cell
    from inf2kit.catalog.calibration import Calibration

#: Seconds between two lines of progress where they add up.
_LOG_S = 10.0


class ProgressLine:
    """Prints how far a run is: on a terminal one line, elsewhere a line now and then.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._is_quiet = quiet
        self._is_terminal = sys.stderr.isatty()
        self._next_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Print it, if it is time."""
        now = time.monotonic()
        if self._is_quiet:
            return
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{progress}")
            sys.stderr.flush()
        elif now >= self._next_at:
            self._next_at = now + _LOG_S
            click.echo(str(progress), err=True)

    def print_line(self, text: str) -> None:
        """Print a line that stays."""
        if self._is_quiet:
            return
        click.echo(f"\r\x1b[K{text}" if self._is_terminal else text, err=True)


class ReportWriter:
    """Writes a report's files into a folder.

    Args:
        folder: The folder, which exists when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, report: Report) -> None:
        """Write the samples so far."""
        report.write(self.folder / "load.json")

    def finish(self, report: Report) -> None:
        """Write everything."""
        from inf2kit.bench.load.aiperf import to_aiperf
        from inf2kit.bench.load.page import to_html

        self.keep(report)
        paths.replace_file(self.folder / "report.html", to_html(report).encode())
        for name, values in to_aiperf(report).items():
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            content = json.dumps(values, indent=1).encode()
            paths.replace_file(folder / "profile_export_aiperf.json", content)


def summary(cell: Cell, slo: dict[str, float]) -> str:
    """Return one line on a cell that has ended."""
    from inf2kit.bench.load.checks import check
    from inf2kit.bench.load.metrics import measure
    from inf2kit.bench.load.table import number

    statistics = measure(cell, slo)
    names = ", ".join(dict.fromkeys(finding.name for finding in check(cell))) or "checks passed"
    return (
        f"{number(statistics.get('output_token_throughput'))} tokens/s, "
        f"{number(statistics.get('request_throughput'))} requests/s, "
        f"median latency {number(statistics.get('request_latency'), 50)} s; {names}"
    )


def print_report(report: Report) -> None:
    """Print the tables, and a line for each failed check."""
    from inf2kit.bench.load import table

    click.echo(report.notice)
    click.echo(report.workload)
    click.echo()
    print_table(table.throughput_table(report))
    click.echo()
    print_table(table.percentile_table(report))
    if lines := table.finding_lines(report):
        click.echo()
        for line in lines:
            click.echo(line)


def print_calibration(calibration: Calibration, path: Path) -> None:
    """Print what was fitted, and where it is."""
    prefills = ", ".join(
        f"{tokens} tokens {1000 * seconds:.1f} ms"
        for tokens, seconds in zip(calibration.prefill_tokens, calibration.prefill_s, strict=True)
    )
    sampling = "device" if calibration.on_device_sampling else "host"
    rows = [
        ("CALIBRATION", f"{calibration.preset} on {calibration.machine}, {calibration.measured}"),
        ("prefill", prefills),
        ("step alone", f"{1000 * (calibration.step_s + calibration.row_step_s):.2f} ms"),
        ("each further row", f"{1000 * calibration.row_step_s:.2f} ms (sampling on the {sampling})"),
        ("stall behind a prefill", f"{1000 * calibration.stall_s:.1f} ms"),
        ("new tokens", f"{calibration.new_tokens:g}, deviation {calibration.new_tokens_deviation:g}"),
        ("outside the engine", f"{1000 * calibration.round_trip_s:.1f} ms"),
        ("notice", calibration.notice or "-"),
        ("file", str(path)),
    ]
    click.echo()
    print_table(rows)
