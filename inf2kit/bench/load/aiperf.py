"""The report in the shape of AIPerf's ``profile_export_aiperf.json``, one object for each load.

Its metrics are in AIPerf's units: latencies are milliseconds there.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from inf2kit.bench.load.metrics import Statistic, Window, count_failures
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Cell

#: The version of AIPerf's schema that this is.
_SCHEMA_VERSION = "1.3"
_UNITS = {"tokens/s": "tokens/sec", "requests/s": "requests/sec"}
_PER_USER = ("output_token_throughput_per_user", "e2e_output_token_throughput")
#: Times that AIPerf gives in seconds.
_SECONDS = {"benchmark_duration": "sec"}


def to_aiperf(report: Report) -> dict[str, dict[str, Any]]:
    """Return an object for each load, by the load's name with ``-`` for spaces and ``/``."""
    objects = {}
    for cell, statistics, _ in report.measured():
        name = str(cell.load).replace(" ", "-").replace("/", "-per-")
        objects[name] = _to_object(report, cell, statistics)
    return objects


def _to_object(report: Report, cell: Cell, statistics: dict[str, Statistic]) -> dict[str, Any]:
    metrics = {tag: _metric(tag, statistic) for tag, statistic in statistics.items()}
    counted = Window.of(cell).counted(cell)
    answers = [sample for sample in counted if sample.failure is None]
    for tag, values in (
        ("total_isl", [sample.input_tokens for sample in answers]),
        ("total_osl", [sample.generated_tokens for sample in answers]),
    ):
        metrics[tag] = {"unit": "tokens", "avg": float(sum(values))}
    began = dt.datetime.fromisoformat(cell.began)
    last_s = max((sample.end_s for sample in cell.samples), default=cell.stop_s)
    name = {"callers": "concurrency", "rate": "request_rate", "replay": "replay_speed"}[cell.load.kind]
    load = {name: cell.load.value if cell.load.is_open else int(cell.load.value)}
    messages = {sample.failure: sample.message for sample in counted}
    return {
        "schema_version": _SCHEMA_VERSION,
        **metrics,
        "was_cancelled": cell.interrupted,
        "start_time": began.isoformat(),
        "end_time": (began + dt.timedelta(seconds=last_s)).isoformat(),
        "error_summary": [
            {"error_details": {"code": None, "type": kind, "message": messages[kind]}, "count": count}
            for kind, count in count_failures(counted).items()
        ],
        # AIPerf's own reader allows for further keys here, and for none of others inside "input_config".
        "inf2kit": {
            "version": report.version,
            "endpoint": report.endpoint,
            "notice": report.notice,
            "streaming": cell.streamed,
            "workload": report.workload,
            "random_seed": report.seed,
            **load,
        },
    }


def _metric(tag: str, statistic: Statistic) -> dict[str, Any]:
    is_time = statistic.unit == "s" and tag not in _SECONDS
    factor = 1000.0 if is_time else 1.0
    unit = "ms" if is_time else _SECONDS.get(tag, _UNITS.get(statistic.unit, statistic.unit))
    if tag in _PER_USER:
        unit = "tokens/sec/user"
    metric: dict[str, Any] = {"unit": unit, "avg": factor * statistic.avg}
    if statistic.percentiles is not None:
        metric |= {f"p{number}": factor * value for number, value in statistic.percentiles.items()}
        metric |= {name: factor * getattr(statistic, name) for name in ("min", "max", "std")}
    return metric
