"""What the client adds to boto3, and how it compares with a pool of threads over boto3."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from benchmarks import servers
from benchmarks.report import Report, Row
from inf2kit import AsyncEndpoint, Endpoint, TextResult

_CALLS, _MANY, _ANSWER_S = 300, 2000, 0.05
#: Calls of a single caller, who waits for each of them.
_MANY_ALONE = 200


def measure_client(report: Report, runs: int) -> None:
    """Measure single calls against a server that answers at once, and many against one that takes 50 ms."""
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    with _server(0) as url, report.section("the client, per call") as rows:
        rows += _measure_single(session, url, runs)
    with _server(_ANSWER_S) as url, report.section(f"the client, {_MANY:,} calls of 50 ms") as rows:
        for count in (1, 8, 64, 256):
            rows += _measure_many(session, url, count, runs)
        rows.append(_measure_in_flight(url, 1000, runs))
    _measure_openai(report, runs)


def _measure_openai(report: Report, runs: int) -> None:
    """Measure a chat of one token by OpenAI's route with a token for each call, against boto3."""
    began = time.perf_counter()
    simulated = {"INF2KIT_BACKEND": "simulated", "INF2KIT_SIMULATED_STEP_SECONDS": "0"}
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    with servers.local_endpoint(servers.PRESET, **simulated) as (server, state):
        boto = servers.boto3_client(state)
        arguments = Endpoint(state.name).openai()
        path, make_token = f"{arguments['base_url']}/chat/completions", arguments["api_key"]
        encoded = json.dumps(body)

        def invoke() -> Any:
            response = boto.invoke_endpoint(
                EndpointName=state.name, ContentType="application/json", Body=encoded
            )
            return json.loads(response["Body"].read())

        with httpx.Client(trust_env=False) as web, server.alone():

            def ask() -> Any:
                headers = {"authorization": f"Bearer {make_token()}"}
                return web.post(path, headers=headers, json=body).raise_for_status().json()

            for _ in range(_CALLS):  # Java compiles methods that run often
                invoke()
            whole: list[float] = []
            route: list[float] = []
            for _ in range(runs):
                pairs = [(_time_ms(invoke), _time_ms(ask)) for _ in range(_CALLS)]
                whole.append(statistics.median(first for first, _ in pairs))
                route.append(statistics.median(second for _, second in pairs))
            tokens = [statistics.median(_time_ms(make_token) for _ in range(_CALLS)) for _ in range(runs)]
    with report.section("OpenAI's route, per call", began) as rows:
        rows += [
            Row("boto3, invoke_endpoint and JSON", whole, "ms", decimals=3),
            Row("httpx, OpenAI's route", route, "ms", "boto3", whole, decimals=3),
            Row("a token alone", tokens, "ms", decimals=3),
        ]


def _measure_single(session: Any, url: str, runs: int) -> list[Row]:
    invoke, endpoint = _bare_call(session, url, 1), Endpoint("e", endpoint_url=url, session=session)
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(runs):
        pairs = [(_time_ms(invoke), _time_ms(lambda: endpoint.generate("x"))) for _ in range(_CALLS)]
        bare.append(statistics.median(first for first, _ in pairs))
        ours.append(statistics.median(second for _, second in pairs))
    added = [mine - theirs for mine, theirs in zip(ours, bare, strict=True)]
    return [
        Row("boto3, invoke_endpoint and JSON", bare, "ms", decimals=3),
        Row("Endpoint.generate", ours, "ms", "boto3", bare, decimals=3),
        Row("what it adds", added, "ms", decimals=3),
    ]


def _measure_many(session: Any, url: str, count: int, runs: int) -> list[Row]:
    calls = _MANY if count > 1 else _MANY_ALONE
    endpoint = Endpoint("e", endpoint_url=url, session=session)

    def in_threads() -> None:
        invoke = _bare_call(session, url, count)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: invoke(), range(calls)))

    def by_ours() -> None:
        results = list(endpoint.generate_many(["x"] * calls, concurrency=count))
        assert all(isinstance(result, TextResult) for result in results)

    def by_asyncio() -> None:
        asyncio.run(_asynchronous(session, url, count, calls))

    ways = {
        f"{count} threads over boto3": in_threads,
        f"generate_many, {count} callers": by_ours,
        f"AsyncEndpoint.generate_many, {count}": by_asyncio,
    }
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    processor_s: dict[str, list[float]] = {what: [] for what in ways}
    for _ in range(runs):
        for what, way in ways.items():
            began, processor_began = time.perf_counter(), time.process_time()
            way()
            seconds[what].append(time.perf_counter() - began)
            processor_s[what].append(time.process_time() - processor_began)
    first, *_ = ways
    rows = []
    for what in ways:
        processor_ms = statistics.median(processor_s[what]) / calls * 1e3
        note = f"{calls:,} calls, {processor_ms:.2f} ms of processor time each"
        against: tuple[str, list[float]] = ("", []) if what == first else ("threads", seconds[first])
        rows.append(Row(what, seconds[what], "s", *against, note=note, decimals=2))
    return rows


def _measure_in_flight(url: str, count: int, runs: int) -> Row:
    """Measure many calls at once, and what memory they take, in a process without this one's libraries."""
    command = [sys.executable, "-m", "benchmarks.in_flight", url, str(_MANY), str(count)]
    samples = [
        json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(runs)
    ]
    grew_mb, idle_mb = (max(sample[name] for sample in samples) for name in ("grew_mb", "idle_mb"))
    return Row(
        f"AsyncEndpoint.generate_many, {count:,} in flight",
        [sample["seconds"] for sample in samples],
        "s",
        note=f"its process grows by {grew_mb:.0f} MB over {idle_mb:.0f} MB after one call",
        decimals=2,
    )


async def _asynchronous(session: Any, url: str, count: int, calls: int) -> None:
    async with AsyncEndpoint("e", endpoint_url=url, session=session) as endpoint:
        results = [each async for each in endpoint.generate_many(["x"] * calls, concurrency=count)]
    assert all(isinstance(result, TextResult) for result in results)


def _bare_call(session: Any, url: str, connections: int) -> Callable[[], Any]:
    """A call as users of boto3 write it."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=70, max_pool_connections=connections)
    client = session.client("sagemaker-runtime", endpoint_url=url, config=config)

    def invoke() -> Any:
        body = json.dumps({"inputs": "x", "parameters": {"details": "counts"}})
        response = client.invoke_endpoint(EndpointName="e", ContentType="application/json", Body=body)
        return json.loads(response["Body"].read())

    return invoke


def _time_ms(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


@contextmanager
def _server(answer_s: float) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("quick_server.py")), str(answer_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
