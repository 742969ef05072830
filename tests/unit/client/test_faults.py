"""What callers see of an endpoint that answers wrongly, and how many requests reach it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from inf2kit import AsyncEndpoint, Endpoint, EndpointError
from tests.helpers.fault_server import FAULTS, TEXT, Fault, FaultServer, answer, fault_server
from tests.helpers.servers import PATIENCE_S

#: One worker runs all of them, as they share the outcomes.
pytestmark = pytest.mark.xdist_group("faults")

DOCS = Path(__file__).parents[3] / "docs" / "client.md"
#: One for all, as a session reads botocore's files of the service.
SESSION = boto3.session.Session("local", "local", region_name="us-east-1")
BUSY, ONCE = ("EndpointBusyError", 3), 1
BROKEN, SERVER = ("EndpointInterruptedError", ONCE), ("EndpointServerError", ONCE)
TIMEOUT = ("EndpointTimeoutError", ONCE)
#: What a caller of ``generate`` sees and how many requests it takes, and the same for ``stream``.
EXPECTED: dict[str, tuple[tuple[str, int], tuple[str, int]]] = {
    "throttled: 400 with a null message": (BUSY, BUSY),
    "throttled: 400 with a null message and no code": (BUSY, BUSY),
    "503 of SageMaker": (BUSY, BUSY),
    "ModelNotReady": (BUSY, BUSY),
    "503 of the container": (BUSY, BUSY),
    "429 of the container": (BUSY, BUSY),
    "422 of the container": (("EndpointRequestError", ONCE), ("EndpointRequestError", ONCE)),
    "500 of the container": (SERVER, SERVER),
    "the container took 60 s": (TIMEOUT, TIMEOUT),
    "403: the credentials do not allow it": (("EndpointAccessError", ONCE), ("EndpointAccessError", ONCE)),
    "reset before the answer": (BROKEN, BROKEN),
    "reset in the middle": (BROKEN, BROKEN),
    "half a frame, half a JSON": (SERVER, BROKEN),
    "ends before its end": (BROKEN, BROKEN),
    "longer than its length says": (SERVER, ("the text", ONCE)),
    "ModelStreamError": (SERVER, BROKEN),
    "no answer": (TIMEOUT, TIMEOUT),
    "a slow drip": (TIMEOUT, TIMEOUT),
    "another content type": (("the text", ONCE), ("the text", ONCE)),
    "an HTML page": (SERVER, SERVER),
    "502 with an HTML page": (SERVER, SERVER),
    "a redirect": (SERVER, SERVER),
}


@dataclass
class Outcome:
    """What a caller saw, how many requests that took, and the error."""

    seen: str
    requests: int
    error: EndpointError | None = None


def timeout_for(fault: str) -> float:
    """Return a short timeout for what never comes, so that nobody waits 70 s for it."""
    return 3.0 if fault in ("no answer", "a slow drip") else PATIENCE_S


def sync_call(server: FaultServer, name: str, stream: bool, timeout_s: float) -> Outcome:
    endpoint = Endpoint(name, endpoint_url=server.url, session=SESSION).with_options(timeout=timeout_s)
    try:
        text = "".join(endpoint.stream("x")) if stream else endpoint.generate("x").text
    except EndpointError as error:
        return Outcome(type(error).__name__, server.requests[name], error)
    return Outcome("the text" if text == TEXT else f"another text: {text!r}", server.requests[name])


async def async_call(server: FaultServer, name: str, stream: bool, timeout_s: float) -> Outcome:
    async with AsyncEndpoint(name, endpoint_url=server.url, session=SESSION).with_options(
        timeout=timeout_s
    ) as endpoint:
        try:
            if stream:
                text = "".join([piece async for piece in endpoint.stream("x")])
            else:
                text = (await endpoint.generate("x")).text
        except EndpointError as error:
            return Outcome(type(error).__name__, server.requests[name], error)
    return Outcome("the text" if text == TEXT else f"another text: {text!r}", server.requests[name])


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture(scope="module")
def outcomes(server: FaultServer) -> dict[tuple[str, str, bool], Outcome]:
    """Every fault by both transports, whole and streamed, all at the same time."""
    cases = [
        (f"e{number}-{kind}-{int(stream)}", kind, stream, fault)
        for number, fault in enumerate(FAULTS)
        for kind in ("sync", "async")
        for stream in (False, True)
    ]
    for name, _, _, fault in cases:
        server.plans[name] = [FAULTS[fault]]

    async def run_async() -> list[Outcome]:
        calls = [
            async_call(server, name, stream, timeout_for(fault))
            for name, kind, stream, fault in cases
            if kind == "async"
        ]
        return await asyncio.gather(*calls)

    with ThreadPoolExecutor(len(cases)) as pool:
        calls = [
            pool.submit(sync_call, server, name, stream, timeout_for(fault))
            for name, kind, stream, fault in cases
            if kind == "sync"
        ]
        results = {"sync": iter([call.result() for call in calls]), "async": iter(asyncio.run(run_async()))}
    return {(fault, kind, stream): next(results[kind]) for _, kind, stream, fault in cases}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_typed_error_and_is_paid_for_once(
    outcomes: dict[tuple[str, str, bool], Outcome], fault: str, kind: str
) -> None:
    seen = tuple(outcomes[fault, kind, stream] for stream in (False, True))
    assert tuple((outcome.seen, outcome.requests) for outcome in seen) == EXPECTED[fault]
    for outcome in seen:
        if outcome.error is not None:
            assert outcome.error.attempts == outcome.requests
            came_back = fault not in ("no answer", "reset before the answer")
            assert outcome.error.request_id == ("id-1" if came_back else None)
            assert "Traceback" not in str(outcome.error)
            assert len(str(outcome.error)) < 700


def test_the_docs_have_the_table(outcomes: dict[tuple[str, str, bool], Outcome]) -> None:
    rows = ["| what happens | `generate` | requests | `stream` | requests |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        cells = []
        for stream in (False, True):
            outcome = outcomes[fault, "sync", stream]
            seen = f"`{outcome.seen}`" if outcome.error else outcome.seen
            cells += [seen, str(outcome.requests)]
        rows.append(f"| {fault} | {' | '.join(cells)} |")
    table = "\n".join(rows)
    print(table)
    between = re.search(r"<!-- faults -->\n(.*?)\n<!-- /faults -->", DOCS.read_text(encoding="utf-8"), re.S)
    assert between, "docs/client.md has a place for the table"
    assert between[1] == table, "copy the table that this test prints into docs/client.md"


SAFE = [fault for fault, (whole, _) in EXPECTED.items() if whole == BUSY]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_was_refused_is_repeated_until_it_is_answered(server: FaultServer, kind: str) -> None:
    plans: dict[str, list[Fault]] = {
        f"again-{kind}-{number}": [FAULTS[fault], answer] for number, fault in enumerate(SAFE)
    }
    server.plans |= plans
    seen: list[Any] = []
    if kind == "sync":
        with ThreadPoolExecutor(len(plans)) as pool:
            endpoints = [Endpoint(name, endpoint_url=server.url, session=SESSION) for name in plans]
            results = list(
                pool.map(lambda each: each.with_options(on_retry=seen.append).generate("x"), endpoints)
            )
    else:

        async def call_all() -> list[Any]:
            endpoints = [AsyncEndpoint(name, endpoint_url=server.url, session=SESSION) for name in plans]
            calls = [each.with_options(on_retry=seen.append).generate("x") for each in endpoints]
            results = await asyncio.gather(*calls)
            for each in endpoints:
                await each.aclose()
            return results

        results = asyncio.run(call_all())
    for name, result in zip(plans, results, strict=True):
        assert (result.text, result.attempts, result.request_id) == (TEXT, 2, "id-1")
        assert 0 < result.timings.waited_s < result.timings.total_s
        assert server.requests[name] == 2
    assert [retry.attempt for retry in seen] == [1] * len(plans)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("fault", ["no answer", "reset in the middle"])
def test_a_lost_answer_is_asked_for_again_only_if_that_is_wanted(
    server: FaultServer, kind: str, fault: str
) -> None:
    name = f"lost-{kind}-{list(FAULTS).index(fault)}"
    server.plans[name] = [FAULTS[fault], answer]
    options: dict[str, Any] = {"timeout": timeout_for(fault), "idempotent": True}
    if kind == "sync":
        result = (
            Endpoint(name, endpoint_url=server.url, session=SESSION).with_options(**options).generate("x")
        )
    else:

        async def call() -> Any:
            async with AsyncEndpoint(name, endpoint_url=server.url, session=SESSION).with_options(
                **options
            ) as endpoint:
                return await endpoint.generate("x")

        result = asyncio.run(call())
    assert (result.text, result.attempts, server.requests[name]) == (TEXT, 2, 2)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("fault", ["no answer", "429 of the container"])
@pytest.mark.timeout(60)
def test_a_call_ends_by_its_deadline(server: FaultServer, kind: str, fault: str) -> None:
    """Not after 70 s, which a call may take otherwise; the test's own limit is less than that."""
    name = f"deadline-{kind}-{list(FAULTS).index(fault)}"
    server.plans[name] = [FAULTS[fault]]
    options: dict[str, Any] = {"deadline": 0.5, "max_retries": 1000, "idempotent": True}

    async def call() -> None:
        async with AsyncEndpoint(name, endpoint_url=server.url, session=SESSION) as endpoint:
            await endpoint.with_options(**options).generate("x")

    endpoint = Endpoint(name, endpoint_url=server.url, session=SESSION).with_options(**options)
    with pytest.raises(EndpointError) as ended:
        endpoint.generate("x") if kind == "sync" else asyncio.run(call())
    # The last attempt may have no time left for its answer.
    kinds = {"EndpointTimeoutError"} | ({"EndpointBusyError"} if fault != "no answer" else set())
    assert type(ended.value).__name__ in kinds


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_is_never_repeated_from_the_middle(server: FaultServer, kind: str) -> None:
    name = f"middle-{kind}"
    server.plans[name] = [FAULTS["reset in the middle"], answer]

    async def read() -> str:
        async with AsyncEndpoint(name, endpoint_url=server.url, session=SESSION).with_options(
            idempotent=True
        ) as endpoint:
            stream = endpoint.stream("x")
            with pytest.raises(EndpointError, match="broke off"):
                await stream.read()
            return stream.text

    def read_sync() -> str:
        stream = (
            Endpoint(name, endpoint_url=server.url, session=SESSION).with_options(idempotent=True).stream("x")
        )
        with pytest.raises(EndpointError, match="broke off"):
            stream.read()
        return stream.text

    assert (read_sync() if kind == "sync" else asyncio.run(read())) == "Once"
    assert server.requests[name] == 1


def test_nothing_is_sent_where_nothing_listens() -> None:
    for _ in range(2):
        retries: list[Any] = []
        endpoint = Endpoint("e", endpoint_url="http://127.0.0.1:9").with_options(on_retry=retries.append)
        with pytest.raises(EndpointError, match="cannot be reached") as error:
            endpoint.with_options(max_retries=1).generate("x")
        assert (type(error.value).__name__, error.value.attempts, len(retries)) == (
            "EndpointConnectionError",
            2,
            1,
        )
