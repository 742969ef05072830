"""Several engines in one container: on this machine's CPU, and at the published speed of a device's."""

from __future__ import annotations

import datetime as dt
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import inf2kit
from benchmarks import callers, servers
from benchmarks.planning.drivers import lengths
from benchmarks.planning.runs import Run, pool, sessions
from benchmarks.prompts import Prompts
from benchmarks.report import Report, Row
from inf2kit import toml
from inf2kit.catalog.calibration import Calibration
from inf2kit.presets import Preset
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from inf2kit.rehearsal.local.state import EndpointState

INPUT_TOKENS, NEW_TOKENS, CALLERS, ROWS = 128, 64, 16, 16
#: The runs of one, two and three engines of 8 cores and 32 rows, each with one burst of calls.
_PUBLISHED, _FLEET = "vllm-results-cli-dp.csv", "llama3.1-8b-fleet"
#: Seconds of a prefill in raw reports of the same model and shape, and the share of it that all rows wait
#: after it. The single caller's mean has the first calls of cold engines in it.
_PREFILL_S, _STALL_SHARE = 0.2975, 0.1
#: Calls before the first burst, and seconds between two calls of a burst.
_WARM_UP = 64
_SEND_S = 0.001


def measure_fleet(report: Report, prompts: Prompts, runs: int) -> None:
    """Measure two engines against one on the CPU, and simulated engines against published runs."""
    with TemporaryDirectory(prefix="inf2kit-") as folder:
        _measure_cpu(report, prompts, runs, Path(folder))
        _measure_published(report, prompts, runs, Path(folder))


def _measure_cpu(report: Report, prompts: Prompts, runs: int, folder: Path) -> None:
    """Compare two engines with one that has the rows and the threads of both, and with one of them alone."""
    began, threads = time.perf_counter(), len(os.sched_getaffinity(0))
    one, two, half = "one engine with both's rows and threads", "two engines", "one of them alone"
    choices = {one: (1, ROWS, threads), half: (1, ROWS // 2, threads // 2), two: (2, ROWS // 2, threads // 2)}
    speeds: dict[int, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        endpoints = {}
        for name, (engines, batch_size, threads_of_each) in choices.items():
            preset = inf2kit.load_preset(servers.PRESET)
            shapes = replace(preset.shapes, batch_size=batch_size)
            path = _write_preset(replace(preset, shapes=shapes), engines, folder)
            variables = {"INF2KIT_TORCH_THREADS": str(max(1, threads_of_each))}
            endpoint = servers.local_endpoint(path, f"inf2kit-bench-{len(endpoints)}", **variables)
            endpoints[name], _ = stack.enter_context(endpoint)
        for server in endpoints.values():  # the first calls are slower
            callers.run(CALLERS, iter([partial(server.generate, prompts.make(32), 8)] * 2 * CALLERS))
        for _ in range(runs):
            for count, requests in ((CALLERS, 2 * CALLERS), (1, 2)):
                texts = [prompts.make(INPUT_TOKENS) for _ in range(requests)]
                # They are not stopped in between: idle ones take no time, and after a stop count as stuck.
                for name, server in endpoints.items():
                    calls = iter([partial(server.generate, text, NEW_TOKENS) for text in texts])
                    load = callers.run(count, calls)
                    assert not load.failures, load.failures[0]
                    speeds.setdefault(count, {}).setdefault(name, []).append(load.tokens_per_second)
    title = f"two engines on the CPU, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out, {threads} threads in all"
    with report.section(title, began) as rows:
        for count, by_name in speeds.items():
            label = f"{count} caller{'s' if count > 1 else ''}"
            rows.append(Row(f"{label}, {one}", by_name[one], "tokens/s"))
            rows.append(Row(f"{label}, {half}", by_name[half], "tokens/s", "the one", by_name[one]))
            rows.append(Row(f"{label}, {two}", by_name[two], "tokens/s", "the one", by_name[one]))
            rows.append(Row(f"{label}, {two}", by_name[two], "tokens/s", "one of them", by_name[half]))


def _measure_published(report: Report, prompts: Prompts, runs: int, folder: Path) -> None:
    """Send the published bursts through the whole stack, to simulated engines with the published times."""
    began, measured = time.perf_counter(), list[tuple[Run, list[float]]]()
    for session in sessions():
        alone, burst = session[0], session[-1]
        if alone.source.endswith(_PUBLISHED) and alone.itl:
            with _simulated(alone.engines, alone.itl, folder) as state:
                # As published: a single caller came first. Java compiles methods that run often.
                _send(state, [(prompts.make(burst.input_tokens), 4)] * _WARM_UP)
                measured.append((burst, [_burst(state, burst, prompts, seed) for seed in range(runs)]))
    title = "published bursts through the whole stack (simulated engines of 8 cores and 32 rows)"
    with report.section(title, began) as rows:
        for burst, speeds in measured:
            label = f"{burst.engines} engine{'s' if burst.engines > 1 else ''}, {burst.calls} calls at once"
            published = [burst.tokens or 0.0] * len(speeds)
            note = f"published: {burst.tokens:,.0f} tokens/s"
            rows.append(Row(label, speeds, "tokens/s", "published", published, note=note))


def _burst(state: EndpointState, burst: Run, prompts: Prompts, seed: int) -> float:
    """New tokens per second of as many calls as were published, with lengths as in the raw reports."""
    assert burst.calls
    assert burst.new_tokens
    generator, draw = random.Random(seed), lengths(burst.new_tokens, pool())
    return _send(state, [(prompts.make(burst.input_tokens), draw(generator)) for _ in range(burst.calls)])


def _send(state: EndpointState, calls: Sequence[tuple[str, int]]) -> float:
    """Make all calls at once; new tokens per second from the first call to the last answer."""
    client, tokens = servers.boto3_client(state), list[int]()

    def call(prompt: str, new_tokens: int) -> None:
        tokens.append(servers.invoke(client, state.name, prompt, new_tokens))

    threads = [threading.Thread(target=call, args=arguments) for arguments in calls]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
        time.sleep(_SEND_S)
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    assert len(tokens) == len(calls), f"{len(calls) - len(tokens)} calls failed"
    return sum(tokens) / seconds


@contextmanager
def _simulated(engines: int, step_s: float, folder: Path) -> Iterator[EndpointState]:
    """Run the fleet's preset with so many simulated engines, each with the published times."""
    preset, speed = inf2kit.load_preset(_FLEET), folder / "speed.toml"
    calibration = Calibration(
        preset=_FLEET,
        batch_size=preset.shapes.batch_size,
        sequence_length=preset.shapes.sequence_length,
        engines=engines,
        on_device_sampling=True,
        prefill_tokens=(1500,),
        prefill_s=(_PREFILL_S,),
        step_s=step_s,
        row_step_s=0.0,
        stall_s=_STALL_SHARE * _PREFILL_S,
        new_tokens=230.0,
        new_tokens_deviation=40.0,
        round_trip_s=0.0,
        measured=dt.date(2026, 3, 17),
        machine=preset.compute.instance_type,
        notice="published",
    )
    calibration.write(speed)
    name = f"inf2kit-bench-fleet-{engines}"
    try:
        yield start_endpoint(_write_preset(preset, engines, folder), name=name, speed=str(speed))
    finally:
        LocalEndpoint(name).stop()


def _write_preset(preset: Preset, engines: int, folder: Path) -> str:
    path = folder / f"{preset.name}-{engines}x{preset.shapes.batch_size}.toml"
    compute = replace(preset.compute, data_parallel_size=engines)
    path.write_text(toml.dumps(replace(preset, compute=compute).to_dict()), encoding="utf-8")
    return str(path)
