"""Load and time: a full queue, a deadline, callers that go away, and AWS's own limits at the runtime."""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from inf2kit import AsyncEndpoint, Endpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, read_metrics
from tests.helpers.runtime import serve_runtime
from tests.helpers.servers import PATIENCE_S, wait_until

LONG = {"max_new_tokens": 1000, "ignore_eos": True}


def open_streams(caller: EndpointCaller, count: int) -> list[Any]:
    def open_one(_: int) -> Any:
        return caller.client.invoke_endpoint_with_response_stream(
            EndpointName=caller.name,
            ContentType="application/json",
            Body=json.dumps({"inputs": "x", "parameters": LONG, "stream": True}),
        )["Body"]

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(open_one, range(count)))


def test_the_deadline_gives_a_partial_answer(hurried: EndpointState) -> None:
    caller = EndpointCaller(hurried)
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(caller.stream, "x", **LONG)
        (answer,) = caller.generate("x", details=True, **LONG)
    assert answer["details"]["finish_reason"] == "time_limit"
    assert 10 < answer["details"]["generated_tokens"] < 1000
    events = streaming.result()
    assert events[-1]["details"]["finish_reason"] == "time_limit"
    assert events[-1]["generated_text"] == "".join(event["token"]["text"] for event in events)


def test_a_base_model_without_a_chat_template_says_so(hurried: EndpointState) -> None:
    for stream in (False, True):
        with pytest.raises(ClientError) as refused:
            EndpointCaller(hurried).invoke({"messages": [{"role": "user", "content": "x"}], "stream": stream})
        assert refused.value.response["OriginalStatusCode"] == 422
        error = json.loads(refused.value.response["OriginalMessage"])["error"]
        assert (error["code"], error["type"]) == ("no_chat_template", "invalid_request_error")


def test_a_full_queue_is_429_with_a_hint_and_nobody_else_is_harmed(hurried: EndpointState) -> None:
    caller = EndpointCaller(hurried)
    streams = open_streams(caller, 8)  # every row is taken
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(caller.generate, "x", **LONG) for _ in range(6)]
        refused = []
        for call in waiting:
            try:
                call.result()
            except ClientError as error:
                assert error.response["OriginalStatusCode"] == 429, "plain load is never a fault of ours"
                refused.append(json.loads(error.response["OriginalMessage"]))
    assert sorted(body["error_type"] for body in refused)[:2] == ["queue_full", "queue_full"]
    assert all(body["retry_after_s"] >= 1 for body in refused)
    ends = [list(stream)[-1]["PayloadPart"]["Bytes"] for stream in streams]
    assert all(b'"time_limit"' in end for end in ends)


def test_callers_that_go_away_free_their_rows(hurried: EndpointState) -> None:
    for stream in open_streams(EndpointCaller(hurried), 8):
        stream.close()
    wait_until(lambda: _is_empty(hurried), "the eight are gone")


def test_a_stream_that_its_reader_leaves_frees_its_row(hurried: EndpointState) -> None:
    streams = [Endpoint(hurried.name).stream("x", **LONG) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(next, streams))
    for stream in streams:
        stream.close()  # what a 'break' out of the loop does
    wait_until(lambda: _is_empty(hurried), "the eight are gone")


def test_a_stream_that_asyncio_leaves_frees_its_row(hurried: EndpointState) -> None:
    async def leave() -> None:
        async with AsyncEndpoint(hurried.name) as endpoint:
            streams = [endpoint.stream("x", **LONG) for _ in range(8)]
            assert all(await asyncio.gather(*map(anext, streams)))
            for stream in streams[:4]:
                await stream.aclose()
            rest = asyncio.ensure_future(streams[4].read())
            await asyncio.sleep(0.1)
            rest.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rest
            for stream in streams[5:]:
                await stream.aclose()

    asyncio.run(leave())
    wait_until(lambda: _is_empty(hurried), "the eight are gone")


def test_callers_that_leave_the_queue_make_room(hurried: EndpointState) -> None:
    caller = EndpointCaller(hurried)
    streams = open_streams(caller, 8)
    queued = [_post(hurried.gateway_port, "x") for _ in range(4)]
    wait_until(lambda: _refusal(caller, "x") == "queue_full", "the queue is full")
    assert _refusal(caller, ["x"] * 13) == "too_many_inputs", "which no idle endpoint would take either"
    for connection in queued[2:]:  # two have reached workers; these two wait at the gateway
        connection.close()
    again = wait_until(lambda: _post_accepted(hurried.gateway_port), "there is room for another")
    again.close()
    for connection in queued[:2]:
        connection.close()
    for stream in streams:
        stream.close()
    wait_until(lambda: _is_empty(hurried), "everyone is gone")


def test_a_list_that_fills_the_endpoint_keeps_nobody_out(
    hurried: EndpointState, figure: Callable[[str], None]
) -> None:
    """A list of twelve texts, rows and queue together: short calls beside it are answered, not refused."""
    caller = EndpointCaller(hurried)
    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(caller.generate, ["x"] * 12, max_new_tokens=50, ignore_eos=True)
        wait_until(lambda: read_metrics(hurried)["inf2kit_rows_busy"] == 8, "every row is taken")
        began = time.monotonic()
        first = next(iter(caller.parts({"inputs": "y", "parameters": {"max_new_tokens": 2}, "stream": True})))
        figure(
            "fairness (simulated): the first token of a short call beside a list of 12 texts of 50 tokens, 8 "
            f"rows of 20 ms a step, after {time.monotonic() - began:.2f} s"
        )
        assert first
        assert not listed.done(), "the list is not over yet"
        assert len(listed.result()) == 12


def _post(port: int, inputs: object) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"inputs": inputs, "parameters": LONG})
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    return connection


def _post_accepted(port: int) -> http.client.HTTPConnection | None:
    """A call that waits in the queue; None where it is refused, which comes at once."""
    connection = _post(port, "x")
    assert connection.sock is not None
    if select.select([connection.sock], [], [], 0.5)[0]:
        connection.close()
        return None
    return connection


def _refusal(caller: EndpointCaller, inputs: object) -> str | None:
    try:
        caller.generate(inputs, max_new_tokens=1)
    except ClientError as error:
        return str(json.loads(error.response["OriginalMessage"])["error_type"])
    return None


def _is_empty(endpoint: EndpointState) -> bool:
    """Whether no text is inside: not at the gateway, and not in a row."""
    counted = read_metrics(endpoint)
    return counted["inf2kit_texts_inside"] == counted["inf2kit_rows_busy"] == 0


@contextmanager
def runtime_before(container: Callable[..., Any], call_limit_s: float) -> Iterator[Any]:
    """A runtime in this process before a container that is no more than an ASGI function."""
    with serve_runtime(container, call_limit_s) as port:
        yield boto3.client(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106
            config=Config(retries={"total_max_attempts": 1}),
        )


async def sleepy(scope: Any, receive: Any, send: Any) -> None:
    """A container that answers half of a stream, or nothing at all, or with too many headers."""
    body = json.loads((await receive())["body"])
    headers = [(b"content-type", b"text/event-stream"), (b"x-secret", b"1"), (b"set-cookie", b"a=b")]
    headers.append((b"x-amzn-sagemaker-custom-attributes", b"kept"))
    if body == "never":
        await asyncio.sleep(30)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: half\n\n", "more_body": body == "half"})
    if body == "half":
        raise RuntimeError("breaks off")


def test_the_runtime_keeps_to_awss_limits() -> None:
    def invoke(name: str, body: str) -> Any:
        return client.invoke_endpoint(EndpointName=name, Body=json.dumps(body))

    with runtime_before(sleepy, call_limit_s=0.5) as client:
        with pytest.raises(client.exceptions.ModelError) as late:
            invoke("up", "never")
        assert late.value.response["OriginalStatusCode"] == 0
        assert "timed out" in str(late.value)

    with runtime_before(sleepy, call_limit_s=PATIENCE_S) as client:
        response = invoke("up", "all")
        names = set(response["ResponseMetadata"]["HTTPHeaders"])
        assert response["CustomAttributes"] == "kept"
        assert not names & {"x-secret", "set-cookie"}, "headers that AWS does not let through"

        for name, code, message in (
            ("nobody", "ValidationError", "not found"),
            ("creating", "ValidationError", "Creating"),
            ("gone", "ServiceUnavailable", "did not answer"),
        ):
            with pytest.raises(ClientError, match=message) as refused:
                invoke(name, "all")
            assert refused.value.response["Error"]["Code"] == code

        stream = client.invoke_endpoint_with_response_stream(EndpointName="up", Body=json.dumps("half"))
        assert stream["ContentType"] == "text/event-stream"
        received = []
        with pytest.raises(EventStreamError, match="broke off"):
            received += [part["PayloadPart"]["Bytes"] for part in stream["Body"]]
