"""The whole stack as its callers see it: hops, first tokens, gaps, load, start-up and memory."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks import callers, servers
from benchmarks.prompts import Prompts
from benchmarks.report import Report, Row
from inf2kit import Endpoint
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.engine.metrics import parse_samples
from inf2kit.serving.engine.protocol import EngineCall, call_engine

SWEEP = (1, 2, 4, 8, 16, 64)
_REPEATS, _WARM_UP = 100, 300


def measure_hops(report: Report, prompts: Prompts) -> None:
    """Measure what each hop adds to a call of one token, which the simulated backend makes in no time."""
    began = time.perf_counter()
    simulated = {"INF2KIT_BACKEND": "simulated", "INF2KIT_SIMULATED_STEP_SECONDS": "0"}
    with servers.local_endpoint(servers.PRESET, **simulated) as (server, state):
        prompt = prompts.make(16)
        body = {"inputs": prompt, "parameters": {"max_new_tokens": 1}}
        client = servers.boto3_client(state)
        calls: dict[str, Callable[[], object]] = {
            "engine, its Unix socket": partial(_call_engine, state, body),
            "gateway, through model server and predict_fn": partial(
                servers.post, state.gateway_url + "/invocations", body
            ),
            "runtime": partial(servers.post, f"{state.url}/endpoints/{state.name}/invocations", body),
            "boto3": partial(servers.invoke, client, state.name, prompt, 1),
        }
        with server.alone():
            # The first hundred calls take twice as long: Java compiles methods that run often.
            for _ in range(_WARM_UP):
                calls["boto3"]()
            samples_by_hop = {
                name: [_measure_ms(call) for _ in range(_REPEATS)] for name, call in calls.items()
            }
    with report.section("one token, one caller, hop by hop (simulated backend)", began) as rows:
        for name, milliseconds in samples_by_hop.items():
            rows.append(Row(f"asked at the {name}", milliseconds, "ms", decimals=2))


def _call_engine(state: EndpointState, body: object) -> None:
    path = Path(state.run_dir) / "inf2kit" / "engine.sock"
    for _ in call_engine(path, EngineCall("generate", body), until=time.monotonic() + 60):
        pass


def _measure_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def measure_streams(report: Report, prompts: Prompts, state: EndpointState, runs: int) -> None:
    """Measure the time to the first token, and a stream's gaps with and without long prompts beside it."""
    target = Endpoint(state.name)
    with report.section("streams through boto3, 128 tokens in") as rows:
        for count in (1, 8):
            first_tokens = [
                seconds
                for _ in range(runs)
                for seconds in _run_together(count, lambda: _stream(target, prompts, 128, 16)[0])
            ]
            rows.append(Row(f"time to first token, {count} callers at once", first_tokens, "s", decimals=3))
        calm = [max(_gaps(_stream(target, prompts, 128, 64))) for _ in range(runs)]
        rows.append(Row("worst gap of a stream, alone", calm, "s", decimals=3))
        disturbed = []
        for _ in range(runs):
            stop = threading.Event()
            sender = threading.Thread(target=_send_long_prompts, args=(target, prompts, stop))
            sender.start()
            disturbed.append(max(_gaps(_stream(target, prompts, 128, 64))))
            stop.set()
            sender.join()
        rows.append(
            Row(
                "worst gap while prompts of 1,500 tokens arrive",
                disturbed,
                "s",
                note="a chunk of 256 tokens between two steps",
                decimals=3,
            )
        )


def _run_together(count: int, call: Callable[[], float]) -> list[float]:
    results: list[float] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _stream(target: Endpoint, prompts: Prompts, tokens: int, new_tokens: int) -> list[float]:
    """Return the seconds from the call to each new token."""
    body = {
        "inputs": prompts.make(tokens),
        "parameters": {"max_new_tokens": new_tokens, "ignore_eos": True},
        "stream": True,
    }
    began = time.perf_counter()
    arrivals = [time.perf_counter() - began for _ in target.stream_events(body)]
    assert len(arrivals) == new_tokens
    return arrivals


def _gaps(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(arrivals)]


def _send_long_prompts(target: Endpoint, prompts: Prompts, stop: threading.Event) -> None:
    while not stop.is_set():
        target.generate(prompts.make(1500), max_new_tokens=1)


def measure_load(
    report: Report, prompts: Prompts, server: servers.Server, state: EndpointState, runs: int, seconds: float
) -> None:
    """Measure more and more callers in a closed loop; the speed must not fall beyond saturation."""
    texts = [prompts.make(128) for _ in range(64)]

    def calls() -> Iterator[Callable[[], int]]:
        for text in itertools.cycle(texts):
            yield partial(server.generate, text, 64, False)

    began = time.perf_counter()
    loads: dict[int, list[callers.Load]] = {count: [] for count in SWEEP}
    speeds: dict[int, list[float]] = {count: [] for count in SWEEP}
    for _ in range(runs):
        for count in SWEEP:
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(callers.run, count, calls(), for_s=seconds)
                speeds[count].append(_steady_speed(state, seconds))
                loads[count].append(load.result())
    title = f"load: callers in a closed loop for {seconds:.0f} s, 128 in and 64 out"
    with report.section(title, began) as rows:
        for count, results in loads.items():
            refused = sum(len(load.failures) for load in results)
            answered = sum(len(load.latencies) for load in results)
            p50, p95 = (
                statistics.median(load.percentile(share) for load in results) for share in (0.5, 0.95)
            )
            rows.append(
                Row(
                    f"{count} callers",
                    speeds[count],
                    "tokens/s",
                    note=f"p50 {p50:.1f} s, p95 {p95:.1f} s, {answered} answered, {refused} refused (429)",
                )
            )
            others = [error for load in results for error in load.failures if "queue" not in str(error)]
            assert not others, others[0]


def _steady_speed(state: EndpointState, seconds: float) -> float:
    """Return new tokens per second by the engine's own counter, in the last three quarters of a load."""

    def count() -> tuple[float, float]:
        with urllib.request.urlopen(state.gateway_url + "/metrics", timeout=10) as response:
            values = parse_samples(response.read().decode())
        return time.perf_counter(), values["inf2kit_generated_tokens_total"]

    time.sleep(seconds / 4)
    began, before = count()
    time.sleep(seconds * 3 / 4)
    ended, after = count()
    return (after - before) / (ended - began)


def measure_start_and_memory(report: Report, server: servers.Server, start_s: list[float]) -> None:
    """Report the seconds until the endpoint is in service, and the proportional memory of its processes."""
    with report.section("start-up and memory (proportional set size)") as rows:
        rows.append(Row("from 'local up' to in service", start_s, "s"))
        memory = server.memory_mb()
        for kind, megabytes in sorted(memory.items(), key=lambda item: -item[1]):
            rows.append(Row(kind, [megabytes], "MiB", decimals=0))
        rows.append(Row("in all", [sum(memory.values())], "MiB", decimals=0))
