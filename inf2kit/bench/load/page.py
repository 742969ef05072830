"""The report as one HTML file with its charts inside."""

from __future__ import annotations

import re
from html import escape

from inf2kit.bench import charts
from inf2kit.bench.load import table
from inf2kit.bench.load.metrics import METRICS, Statistic
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Cell, Load

#: The knee: the smallest closed loop with this share of the highest throughput.
_KNEE = 0.9
#: Points of a timeline; more would only be a larger file.
_POINTS = 60
#: What grows from load to load, by their kind.
_X_LABELS = {"callers": "callers", "rate": "calls per second", "replay": "speed of the replay"}
#: Loads in a timeline, as many as a chart tells apart.
_TIMELINES = 4
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #111; max-width: 62rem; margin: 0 auto; }
body { padding: 0.5rem 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.notice { border-left: 4px solid #555; padding: 0.3rem 0.8rem; background: #f2f2f2; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td.text { text-align: left; }
td.text { white-space: normal; min-width: 16rem; }
td.marked { font-weight: bold; } code { white-space: nowrap; }
dt { font-family: monospace; margin-top: 0.5rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
li { margin: 0.3rem 0; overflow-wrap: anywhere; }
"""


def to_html(report: Report) -> str:
    """Return the page. It needs nothing from the network, and no script."""
    findings = table.finding_lines(report)
    title = f"Load on {report.endpoint}"
    metrics = "".join(
        f"<dt>{escape(tag)} [{escape(metric.unit)}]</dt><dd>{escape(metric.formula)}</dd>"
        for tag, metric in METRICS.items()
    )
    marked = "".join(f"<li>{_sentence(line.removeprefix(table.MARK).strip())}</li>" for line in findings)
    checks = f"<ul>{marked}</ul>" if findings else "<p>Every check passed.</p>"
    slo = ", ".join(f"{name} {limit_s:g} s" for name, limit_s in report.slo.items()) or "none"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="notice">{escape(report.notice)}</p>
<p>{escape(report.workload)}. Sent by: {escape(report.transport)}. Limits (--slo): {escape(slo)}.
Seed {report.seed}. {escape(report.began)}, inf2kit {escape(report.version)}.</p>
<h2>Rates</h2>{_table(table.throughput_table(report))}
<h2>Checks</h2>{checks}
<h2>Charts</h2><div class="charts">{"".join(_charts(report))}</div>
<h2>Percentiles</h2>
<p>Each row has the failures of its load beside it, since failed calls are in no percentile.
"-": too few calls.</p>
{_table(table.percentile_table(report))}
<h2>How each figure is computed</h2><dl>{metrics}</dl>
</body></html>
"""


def _sentence(text: str) -> str:
    """A sentence whose options are not broken into two lines."""
    return re.sub(r"--[a-z-]+", r"<code>\g<0></code>", escape(text))


def find_knee(report: Report) -> Load | None:
    """Return the smallest closed loop with nine tenths of the highest throughput; None below two of them."""
    rates = [
        (cell.load, statistics["output_token_throughput"].avg)
        for cell, statistics, _ in report.measured()
        if cell.load.kind == "callers" and "output_token_throughput" in statistics
    ]
    if len(rates) < 2:
        return None
    highest = max(rate for _, rate in rates)
    return min((load for load, rate in rates if rate >= _KNEE * highest), key=lambda load: load.value)


def _table(rows: table.Rows) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = ""
    for row in rows[1:]:
        cells = ""
        for place, cell in enumerate(row):
            names = ["text"] if place == len(row) - 1 else []
            if cell.startswith(table.MARK) or cell.endswith(table.MARK):
                names.append("marked")
            cells += f'<td class="{" ".join(names)}">{escape(cell)}</td>'
        body += f"<tr>{cells}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _charts(report: Report) -> list[str]:
    measured = [
        (cell, statistics) for cell, statistics, _ in report.measured() if "request_latency" in statistics
    ]
    drawn = []
    for kind in _X_LABELS:
        of_kind = [(cell, statistics) for cell, statistics in measured if cell.load.kind == kind]
        if len(of_kind) > 1:
            drawn.append(_latency_against_throughput(report, kind, of_kind))
            if any("time_to_first_token" in statistics for _, statistics in of_kind):
                drawn.append(_first_token(report, kind, of_kind))
    if measured:
        drawn.append(_timeline(report, [cell for cell, _ in measured]))
    return drawn


def _latency_against_throughput(
    report: Report, kind: str, measured: list[tuple[Cell, dict[str, Statistic]]]
) -> str:
    loop = {"callers": "closed loops", "rate": "open loops", "replay": "replays"}[kind]
    knee = find_knee(report) if kind == "callers" else None
    caption = report.notice
    if knee is not None:
        caption = f"Knee: {knee}, the fewest with 90 % of the highest throughput. {caption}"
    series = {
        f"p{each}": [
            (statistics["output_token_throughput"].avg, _value(statistics["request_latency"], each))
            for _, statistics in measured
        ]
        for each in (50, 95)
    }
    with charts.chart(f"Latency against throughput, {loop}", notice=caption) as (figure, (axes,)):
        charts.draw_lines(axes, series, "new tokens per second", "request_latency [s]")
        for (cell, _), (x, y) in zip(measured, series["p95"], strict=True):
            name = f"{cell.load.value:g}" if kind == "callers" else str(cell.load).removeprefix("replay ")
            label = f"{name} (knee)" if cell.load == knee else name
            axes.annotate(label, (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12, y=0.15)
        return charts.svg(figure)


def _first_token(report: Report, kind: str, measured: list[tuple[Cell, dict[str, Statistic]]]) -> str:
    x_label = _X_LABELS[kind]
    with charts.chart(f"Time to first token by {x_label}", notice=report.notice) as (figure, (axes,)):
        series = {
            f"p{each}": [
                (cell.load.value, _value(statistics["time_to_first_token"], each))
                for cell, statistics in measured
                if "time_to_first_token" in statistics
            ]
            for each in (50, 95)
        }
        charts.draw_lines(axes, series, x_label, "time_to_first_token [s]")
        axes.set_ylim(bottom=0)
        return charts.svg(figure)


def _timeline(report: Report, cells: list[Cell]) -> str:
    """New tokens per second of each load over its time: a ramp, a stall or a fall is visible here."""
    shown = cells if len(cells) <= _TIMELINES else [*cells[: _TIMELINES - 1], cells[-1]]
    left_out = ", ".join(str(cell.load) for cell in cells if cell not in shown)
    notice = f"Not shown: {left_out}. {report.notice}" if left_out else report.notice
    with charts.chart("New tokens per second over time", notice=notice) as (figure, (axes,)):
        charts.draw_lines(
            axes, {str(cell.load): token_rates(cell) for cell in shown}, "seconds of the load", "new tokens/s"
        )
        for line in axes.get_lines():
            line.set_markevery(0.15)
        axes.set_ylim(bottom=0)
        return charts.svg(figure)


def token_rates(cell: Cell) -> list[tuple[float, float]]:
    """Return new tokens per second over a cell, in steps of equal length.

    A streamed answer's tokens count when its pieces came, and a whole answer's when it ended.

    Returns:
        The middle of each step in seconds, and its rate.
    """
    last_s = max((sample.end_s for sample in cell.ended), default=0.0)
    if last_s <= 0:
        return []
    steps = max(min(_POINTS, int(last_s)), 4)
    step_s = last_s / steps
    tokens = [0.0] * steps
    for sample in cell.ended:
        times = sample.chunk_s or (sample.end_s,)
        for at_s in times:
            tokens[min(int(at_s / step_s), steps - 1)] += sample.generated_tokens / len(times)
    return [((number + 0.5) * step_s, count / step_s) for number, count in enumerate(tokens)]


def _value(statistic: Statistic, number: int) -> float:
    """A percentile for a chart, where few calls say at least something."""
    return statistic.avg if statistic.percentiles is None else statistic.percentiles[number]
