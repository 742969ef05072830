"""Runs against the double of a faulty endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inf2kit.bench.load.loops import Until
from inf2kit.bench.load.plan import Workload
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.run import Plan
from inf2kit.bench.load.samples import Load
from inf2kit.bench.load.start import Address, open_run
from inf2kit.planning.lengths import Lengths
from tests.helpers.fault_server import Fault, FaultServer, fault_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    with fault_server() as server:
        yield server


@pytest.fixture
def run_load(server: FaultServer) -> Callable[..., Report]:
    """Measure the double with two callers, or with a load of the test's own."""

    def run(
        fault: Fault,
        load: Load = Load("callers", 2),  # noqa: B008 - it is frozen
        calls: int = 60,
        transport: str = "async",
        stream: bool = True,
    ) -> Report:
        server.plans["double"] = [fault]
        workload = Workload.of_lengths(Lengths(24, 40), Lengths(10, 10))
        plan = Plan((load,), Until(60, calls), workload, 2, 0, stream, {"latency": 1.0})

        async def measure() -> Report:
            address = Address("double", endpoint_url=server.url)
            load_run = await open_run(
                address, transport, plan, timeout_s=10, metrics_url=None, on_progress=lambda _: None
            )
            build_prompt = await load_run.prepare()
            async for _ in load_run.cells(build_prompt, asyncio.Event()):
                pass
            await load_run.aclose()
            return load_run.report

        return asyncio.run(measure())

    return run
