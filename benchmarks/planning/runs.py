"""The published runs under load: lines of ``data/load.csv`` and ``data/requests.csv``, in their sessions."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

_DATA = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Run:
    """One line of a published table; seconds and tokens per second, None where it says nothing."""

    model: str
    instance: str
    cores: int
    engines: int
    rows: int
    sampling: str
    kind: str
    load: float
    in_flight: int
    calls: int | None
    input_tokens: int
    new_tokens: float | None
    ttft_p50: float | None
    ttft: float | None
    itl: float | None
    latency: float | None
    tokens: float | None
    server: str
    tool: str
    version: str
    source: str
    note: str

    @property
    def is_vllm(self) -> bool:
        """Whether vLLM served, whose first tokens come after the step and whose passes take two prefills."""
        return "vllm" in self.server.lower()

    @property
    def label(self) -> str:
        """The run in a few words."""
        name = self.model.partition("/")[2].replace("Meta-", "").replace("-Instruct", "").replace("-hf", "")
        replicas = f" x {self.engines}" if self.engines > 1 else ""
        return f"{name}, {self.cores} cores{replicas}, {self.rows} row{'s' if self.rows > 1 else ''}"

    @property
    def demand(self) -> str:
        """What was sent."""
        if self.kind == "rate":
            return f"{self.load:g} a second"
        if self.kind == "burst":
            return f"{self.calls} at once"
        if self.kind == "waves":
            return f"waves of {self.in_flight}"
        return f"{self.in_flight} in flight"


@functools.cache
def sessions() -> tuple[tuple[Run, ...], ...]:
    """Runs of one server after the other, each beginning with its single caller."""
    groups: dict[tuple[str, ...], list[list[Run]]] = {}
    with (_DATA / "load.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            run = _parse(line)
            key = (run.source, run.version, str(run.engines), run.model)
            group = groups.setdefault(key, [])
            if not group or run.in_flight == 1:
                group.append([])
            group[-1].append(run)
    return tuple(tuple(runs) for group in groups.values() for runs in group if runs[0].in_flight == 1)


@functools.cache
def raw() -> dict[str, dict[str, list[dict[str, float]]]]:
    """The single calls of the raw reports: by run, then by phase, in the order of their start."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    with (_DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            run, phase = line.pop("run"), line.pop("phase")
            values = {name: float(value) for name, value in line.items()}
            runs.setdefault(run, {}).setdefault(phase, []).append(values)
    for phases in runs.values():
        for calls in phases.values():
            calls.sort(key=lambda call: call["start_s"])
    return runs


@functools.cache
def pool() -> tuple[int, ...]:
    """The lengths of all answers of the raw reports."""
    return tuple(
        int(call["new_tokens"]) for phases in raw().values() for calls in phases.values() for call in calls
    )


def _parse(line: dict[str, str]) -> Run:
    def number(name: str, factor: float = 1.0) -> float | None:
        return float(line[name]) * factor if line[name] else None

    def whole(name: str) -> int:
        return int(line[name])

    return Run(
        model=line["model"],
        instance=line["instance"],
        cores=whole("cores"),
        engines=whole("engines"),
        rows=whole("rows"),
        sampling=line["sampling"],
        kind=line["kind"],
        load=float(line["load"]),
        in_flight=whole("in_flight"),
        calls=int(line["calls"]) if line["calls"] else None,
        input_tokens=whole("input_tokens"),
        new_tokens=number("new_tokens"),
        ttft_p50=number("ttft_p50_ms", 0.001),
        ttft=number("ttft_mean_ms", 0.001),
        itl=number("itl_ms", 0.001),
        latency=number("latency_s"),
        tokens=number("tokens_per_s"),
        server=line["server"],
        tool=line["tool"],
        version=line["version"],
        source=line["source"],
        note=line["note"],
    )
