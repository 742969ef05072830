"""What a start costs: seconds until an endpoint is in service, and the processor seconds of its processes."""

from __future__ import annotations

import time
from collections import defaultdict

import psutil

from benchmarks import servers
from benchmarks.report import Report, Row

_BACKENDS = {
    "the embedded model": {},
    "the simulated backend": {"INF2KIT_BACKEND": "simulated"},
}


def measure_start(report: Report, runs: int) -> None:
    """Start endpoints of both backends, in turns; the first of each may compile modules, and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in _BACKENDS}
    processor: dict[str, list[dict[str, float]]] = {name: [] for name in _BACKENDS}
    began_at = time.perf_counter()
    for run in range(runs + 1):
        for name, variables in _BACKENDS.items():
            began = time.perf_counter()
            with servers.local_endpoint(servers.PRESET, **variables) as (server, _):
                took_s = time.perf_counter() - began
                if run:
                    seconds[name].append(took_s)
                    processor[name].append(_processor_seconds(server))
    for name in _BACKENDS:
        with report.section(f"a start, {name}", began_at) as rows:
            rows.append(Row("from 'local up' to in service", seconds[name], "s"))
            in_all = [sum(each.values()) for each in processor[name]]
            rows.append(Row("processor, all processes", in_all, "s"))
            for kind in sorted(processor[name][0], key=lambda kind: -processor[name][0][kind]):
                samples = [each.get(kind, 0.0) for each in processor[name]]
                rows.append(Row(f"processor, {kind}", samples, "s", decimals=2))


def _processor_seconds(server: servers.Server) -> dict[str, float]:
    """Processor seconds by kind of process, of those that live."""
    seconds: dict[str, float] = defaultdict(float)
    for process in server.processes():
        try:
            seconds[servers.kind_of(process)] += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return dict(seconds)
