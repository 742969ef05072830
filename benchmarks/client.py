"""What the client adds to boto3, and how it compares with a pool of threads over boto3."""

from __future__ import annotations

import asyncio
import json
import resource
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
_BODY = json.dumps({"inputs": "x", "parameters": {"details": "counts"}})


def measure_client(report: Report, runs: int) -> None:
    """Measure single calls against a server that answers at once, and many against one that takes 50 ms."""
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    with _server(0) as url, report.section("the client, per call") as rows:
        rows += _measure_single(session, url, runs)
    with _server(_ANSWER_S) as url, report.section(f"the client, {_MANY:,} calls of 50 ms") as rows:
        for count in (8, 64, 256):
            rows += _measure_many(session, url, count, runs)
        in_flight, megabytes = zip(
            *(asyncio.run(_asynchronous(session, url, 1000)) for _ in range(runs)), strict=True
        )
        note = f"peak memory of the process {max(megabytes):.0f} MB"
        rows.append(
            Row("AsyncEndpoint.generate_many, 1,000 in flight", in_flight, "s", note=note, decimals=2)
        )
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
    threads, ours, awaited = [], [], []
    endpoint = Endpoint("e", endpoint_url=url, session=session)
    for _ in range(runs):
        invoke = _bare_call(session, url, count)
        began = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _, invoke=invoke: invoke(), range(_MANY)))
        threads.append(time.perf_counter() - began)
        began = time.perf_counter()
        results = list(endpoint.generate_many(["x"] * _MANY, concurrency=count))
        ours.append(time.perf_counter() - began)
        assert all(isinstance(result, TextResult) for result in results)
        awaited.append(asyncio.run(_asynchronous(session, url, count))[0])
    return [
        Row(f"{count} threads over boto3", threads, "s", decimals=2),
        Row(f"generate_many, {count} callers", ours, "s", "threads", threads, decimals=2),
        Row(f"AsyncEndpoint.generate_many, {count}", awaited, "s", "threads", threads, decimals=2),
    ]


async def _asynchronous(session: Any, url: str, count: int) -> tuple[float, float]:
    """Return the seconds of all calls, and the peak memory of this process in MB."""
    async with AsyncEndpoint("e", endpoint_url=url, session=session) as endpoint:
        began = time.perf_counter()
        results = [each async for each in endpoint.generate_many(["x"] * _MANY, concurrency=count)]
        took_s = time.perf_counter() - began
    assert all(isinstance(result, TextResult) for result in results)
    return took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bare_call(session: Any, url: str, connections: int) -> Callable[[], Any]:
    """A call as users of boto3 write it."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=70, max_pool_connections=connections)
    client = session.client("sagemaker-runtime", endpoint_url=url, config=config)

    def invoke() -> Any:
        response = client.invoke_endpoint(EndpointName="e", ContentType="application/json", Body=_BODY)
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
