"""Connections: which are used again, and which must not be, since a lost call is a lost generation."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from inf2kit import AsyncEndpoint, Endpoint
from tests.helpers.fault_server import TEXT, FaultServer, answer_and_leave, echo, fault_server
from tests.helpers.servers import wait_until

SESSION = boto3.session.Session("local", "local", region_name="us-east-1")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


def where(server: FaultServer) -> dict[str, Any]:
    return {"endpoint_url": server.url, "session": SESSION}


def test_a_connection_that_the_server_has_closed_is_not_used_again(server: FaultServer) -> None:
    server.plans["e"] = [answer_and_leave]
    endpoint = Endpoint("e", **where(server))
    for count in range(1, 6):
        assert endpoint.generate("x").text == TEXT
        wait_until(lambda count=count: server.closed == count, "the server has closed its end")
    assert (server.requests["e"], server.opened) == (5, 5)


def test_nor_by_asyncio(server: FaultServer) -> None:
    server.plans["e"] = [answer_and_leave]

    async def call() -> None:
        async with AsyncEndpoint("e", **where(server)) as endpoint:
            for count in range(1, 6):
                assert (await endpoint.generate("x")).text == TEXT
                wait_until(lambda count=count: server.closed == count, "the server has closed its end")

    asyncio.run(call())
    assert (server.requests["e"], server.opened) == (5, 5)


def test_calls_with_any_deadline_share_connections(server: FaultServer) -> None:
    endpoint = Endpoint("e", **where(server))
    for number in range(20):
        endpoint.with_options(deadline=30 + number / 100).generate("x")
    assert (server.requests["e"], server.opened <= 2) == (20, True)


def test_a_process_after_a_fork_has_connections_of_its_own(server: FaultServer) -> None:
    endpoint = Endpoint("e", **where(server))
    endpoint.generate("x")
    if (child := os.fork()) == 0:
        try:
            os._exit(0 if endpoint.generate("x").text == TEXT else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert endpoint.generate("x").text == TEXT
    assert (server.requests["e"], server.opened) == (3, 2)


def test_event_loops_at_the_same_time_have_connections_of_their_own(server: FaultServer) -> None:
    server.plans["e"] = [echo]
    endpoint, failed = AsyncEndpoint("e", **where(server)), []

    async def call(name: str) -> None:
        prompts = [f"{name}, {number}" for number in range(100)]
        texts = [each async for each in endpoint.generate_many(prompts, concurrency=4)]
        failed.extend(
            text for text, prompt in zip(texts, prompts, strict=True) if getattr(text, "text", "") != prompt
        )
        await endpoint.aclose()

    threads = [threading.Thread(target=lambda name=name: asyncio.run(call(name))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert server.requests["e"] == 400


def test_a_burst_of_callers_opens_each_connection_once(server: FaultServer) -> None:
    server.plans["e"] = [echo]

    async def call() -> None:
        async with AsyncEndpoint("e", **where(server)) as endpoint:
            async for _ in endpoint.generate_many(["x"] * 1200, concurrency=300):
                pass

    asyncio.run(call())
    assert (server.requests["e"], server.opened <= 300) == (1200, True)
