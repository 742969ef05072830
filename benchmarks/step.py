"""Where the time of a decode step goes, and how far the step is from the memory bandwidth."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.report import Report, Row
from inf2kit.serving.engine.backend.base import PrefillChunk
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend
from inf2kit.serving.model_dir import WEIGHTS
from inf2kit.serving.shapes import StaticShapes

_KINDS = {
    "linear layers": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm"),
    "attention": ("aten::bmm", "aten::_softmax", "aten::baddbmm"),
    "writing keys and values": ("aten::_index_put_impl_",),
}
_STEPS, _ROW_LENGTH = 15, 160


def measure_bandwidth() -> float:
    """Return the bytes per second that a plain sum reads with torch's threads, the best of five."""
    data = torch.ones(96 * 2**20)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - began)
    return data.numel() * 4 / best


def measure_breakdown(report: Report, weights: Path, runs: int) -> None:
    """Measure a step of 1 and of 8 rows by kind of operation, and the roofline of reading the weights."""
    backend = CpuBackend(weights, StaticShapes.resolve(8, 2048), "float32")
    backend.load()
    weight_bytes = (weights / WEIGHTS).stat().st_size
    with report.section("where a decode step goes, CPU backend, float32, rows of 160 tokens") as rows:
        roofline_ms = [1e3 * weight_bytes / measure_bandwidth() for _ in range(runs)]
        rows.append(
            Row(
                "roofline: reading the weights once",
                roofline_ms,
                "ms",
                note=f"{weight_bytes / 1e6:.0f} MB a step",
            )
        )
        for count in (1, 8):
            for row in range(count):
                _fill(backend, row)
            live = list(range(count))
            step_ms = []
            for _ in range(runs * _STEPS):
                began = time.perf_counter()
                backend.decode(live, [5] * count)
                step_ms.append((time.perf_counter() - began) * 1e3)
            share = statistics.median(roofline_ms) / statistics.median(step_ms)
            rows.append(Row(f"{count} rows: a step", step_ms, "ms", note=f"roofline / step = {share:.2f}"))
            with profile(activities=[ProfilerActivity.CPU]) as trace:
                for _ in range(_STEPS):
                    backend.decode(live, [5] * count)
            spent = {event.key: event.self_cpu_time_total / 1e3 / _STEPS for event in trace.key_averages()}
            total = sum(spent.values())
            for kind, names in _KINDS.items():
                part = sum(spent.get(name, 0.0) for name in names)
                rows.append(Row(f"{count} rows: {kind}", [part], "ms", note=f"{part / total:.0%} (profiled)"))
            known = {name for names in _KINDS.values() for name in names}
            rest = sum(value for name, value in spent.items() if name not in known)
            note = f"{rest / total:.0%} (profiled): norms, rotary embedding, copies, dispatch"
            rows.append(Row(f"{count} rows: everything else", [rest], "ms", note=note))
            for row in live:
                backend.release(row)


def _fill(backend: CpuBackend, row: int) -> None:
    backend.prefill([PrefillChunk(row, [5 + row] * _ROW_LENGTH)])
