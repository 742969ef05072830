"""The report as tables for a terminal."""

from __future__ import annotations

import re

from inf2kit.bench.load.metrics import METRICS, Statistic, Window, count_failures
from inf2kit.bench.load.report import Report

Rows = list[tuple[str, ...]]
#: Metrics whose percentiles are shown.
LATENCIES = ("time_to_first_token", "inter_token_latency", "inter_chunk_latency", "request_latency")
#: Percentiles that are shown.
SHOWN = (50, 90, 95, 99)
#: What stands in a row whose cell failed a check.
MARK = "!"
#: A figure in a sentence, by which sentences of the same kind differ.
_NUMBER = re.compile(r"\d[\d.,]*")


def throughput_table(report: Report) -> Rows:
    """A row for each load: rates, calls, failures and the names of failed checks."""
    has_slo = bool(report.slo)
    heading = ["LOAD", "CALLS", "FAILED", "TOKENS/S", "REQUESTS/S"]
    rows: Rows = [(*heading, *(["GOOD/S", "GOOD"] if has_slo else []), "CHECKS")]
    for cell, statistics, findings in report.measured():
        values = [number(statistics.get(tag)) for tag in ("output_token_throughput", "request_throughput")]
        if has_slo:
            good = statistics.get("good_request_fraction")
            values += [number(statistics.get("goodput")), f"{good.avg:.0%}" if good else "-"]
        names = ", ".join(dict.fromkeys(finding.name for finding in findings)) or "ok"
        counts = (f"{statistics[tag].avg:.0f}" for tag in ("request_count", "error_request_count"))
        rows.append((str(cell.load), *counts, *values, f"{MARK} {names}" if findings else names))
    return rows


def percentile_table(report: Report) -> Rows:
    """A row for each metric and load: percentiles, with the failures by kind beside them.

    A percentile that too few calls have is "-"; the 99th needs a hundred.
    """
    rows: Rows = [("METRIC", "LOAD", "VALUES", *(f"P{each}" for each in SHOWN), "FAILED CALLS")]
    for tag in LATENCIES:
        for cell, statistics, findings in report.measured():
            statistic = statistics.get(tag)
            if statistic is None:
                continue
            failures = count_failures(Window.of(cell).counted(cell))
            failed = ", ".join(f"{count} {kind}" for kind, count in failures.items()) or "none"
            values = (number(statistic, each) for each in SHOWN)
            load = f"{cell.load} {MARK}" if findings else str(cell.load)
            rows.append((f"{tag} [{METRICS[tag].unit}]", load, str(statistic.count), *values, failed))
    return rows


def finding_lines(report: Report) -> list[str]:
    """A line for each failed check, with the loads that failed it.

    Where they failed it with other figures, those of the last load are shown; ``load.json`` has them all.
    """
    loads: dict[tuple[str, str], list[str]] = {}
    sentences: dict[tuple[str, str], list[str]] = {}
    for cell, _, findings in report.measured():
        for finding in findings:
            kind = finding.name, _NUMBER.sub("0", finding.sentence)
            loads.setdefault(kind, []).append(str(cell.load))
            sentences.setdefault(kind, []).append(finding.sentence)
    lines = []
    for kind, failed in loads.items():
        figures = f" (figures of {failed[-1]})" if len(set(sentences[kind])) > 1 else ""
        lines.append(f"{MARK} {kind[0]} at {', '.join(failed)}: {sentences[kind][-1]}{figures}")
    return lines


def number(statistic: Statistic | None, percentile: int | None = None) -> str:
    """Return a mean, or a percentile, with three digits; ``-`` where there is none."""
    if statistic is None:
        return "-"
    value = statistic.avg if percentile is None else statistic.percentile(percentile)
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
