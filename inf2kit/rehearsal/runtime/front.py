"""The front: ``sagemaker-runtime`` for boto3, passing calls on to an endpoint's gateway.

It is never kinder than AWS: 60 s for a call, 6 MB for a body, and only the headers that AWS lets through.
Signatures are not checked. A single local endpoint and the rehearsal cloud have the same one.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx

from inf2kit.rehearsal.runtime import event_stream
from inf2kit.rehearsal.runtime.errors import RefusedError, check_targets, model_error, timed_out, unreachable
from inf2kit.serving.asgi import (
    DisconnectedError,
    Receive,
    Scope,
    Send,
    answer,
    body_parts,
    disconnected,
    head,
    request_headers,
)

#: Bytes of a request's body (the botocore model of InvokeEndpoint), and seconds of a call.
MAX_BODY = 6_291_456
CALL_LIMIT_S = 60.0
STREAM_LIMIT_S = 480.0

_ROUTE = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")
_HEADER = "x-amzn-sagemaker-"
_ATTRIBUTES = f"{_HEADER}custom-attributes"


@dataclass(eq=False)
class Target:
    """Where an endpoint's calls go: one container.

    Attributes:
        gateway_url: The container's port.
        status: As in DescribeEndpoint; calls are refused while it is ``Creating`` or ``Failed``.
        variant: The name of the production variant.
        notice: What about it is not the real thing; callers find it among the custom attributes.
        in_flight: Calls that are running now.
    """

    gateway_url: str
    status: str
    variant: str = "AllTraffic"
    notice: str = ""
    in_flight: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    Attributes:
        status: The container's; 0 where it did not answer, or not in time.
        model_s: Seconds that the container took, to the last byte.
        overhead_s: Seconds that the front took.
    """

    status: int
    model_s: float
    overhead_s: float


@dataclass
class _Call:
    """One call while it runs; what became of it is written here."""

    target: Target
    body: bytes
    headers: Mapping[str, str]
    status: int | None = 0
    model_s: float = 0.0


class Front:
    """An ASGI application.

    Args:
        target_of: The container that takes the next call of an endpoint, or None where there is no such
            endpoint. The second argument is the variant that the caller asks for, or nothing.
        call_limit_s: Seconds a call may take; AWS's limit unless a test is in a hurry.
        observe: Told of every call that reached a container.
    """

    def __init__(
        self,
        target_of: Callable[[str, str], Target | None],
        *,
        call_limit_s: float = CALL_LIMIT_S,
        observe: Callable[[str, Target, Outcome], None] = lambda _name, _target, _outcome: None,
    ) -> None:
        self._target_of = target_of
        self._call_limit_s = call_limit_s
        self._observe = observe
        self._containers = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - the whole call is bounded below
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0),
            trust_env=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            await self._invoke(scope, receive, send)
        except RefusedError as error:
            headers = {"content-type": "application/json", "x-amzn-errortype": error.kind}
            await answer(send, error.status, json.dumps(error.body).encode(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"])
        if scope["method"] != "POST" or route is None:
            raise RefusedError(404, "UnknownOperationException", f"no operation at {scope['path']}")
        body = await _read_body(receive)
        name = unquote(route[1])
        headers = request_headers(scope)
        target = self._target_of(name, headers.get(f"{_HEADER}target-variant", ""))
        if target is None:
            raise RefusedError(400, "ValidationError", f"Endpoint {name} of account 000000000000 not found.")
        if target.status != "InService":
            raise RefusedError(
                400,
                "ValidationError",
                f"Endpoint {name} of account 000000000000 is in status {target.status}, not InService.",
            )
        check_targets(name, headers, target.variant)
        streamed = route[2] == "invocations-response-stream"
        accept = headers.get(f"{_HEADER}accept" if streamed else "accept", "*/*")
        passed = {"content-type": headers.get("content-type", "application/json"), "accept": accept}
        if _ATTRIBUTES in headers:
            passed[_ATTRIBUTES] = headers[_ATTRIBUTES]
        call = _Call(target, body, passed)
        began = time.perf_counter()
        target.in_flight += 1
        try:
            await (self._stream if streamed else self._whole)(call, receive, send)
        finally:
            target.in_flight -= 1
            if call.status is not None:
                overhead_s = time.perf_counter() - began - call.model_s
                self._observe(name, target, Outcome(call.status, call.model_s, overhead_s))

    async def _whole(self, call: _Call, _: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            response = await asyncio.wait_for(self._post(call), self._call_limit_s)
            await response.aread()
            call.status = response.status_code
        except asyncio.TimeoutError:
            raise timed_out() from None
        except httpx.HTTPError as error:
            raise unreachable(error) from None
        finally:
            call.model_s = time.perf_counter() - began
        if response.status_code != 200:
            raise model_error(response)
        await answer(send, 200, response.content, self._passed_back(call.target, response))

    async def _stream(self, call: _Call, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            await self._stream_parts(call, receive, send)
        finally:
            call.model_s = time.perf_counter() - began

    async def _stream_parts(self, call: _Call, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + STREAM_LIMIT_S
        gone = asyncio.ensure_future(disconnected(receive))
        posting = asyncio.ensure_future(self._post(call, stream=True))
        waiting: set[asyncio.Future[Any]] = {posting, gone}
        await asyncio.wait(waiting, timeout=self._call_limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not posting.done():
            posting.cancel()
            if gone.done():
                call.status = None
                return
            gone.cancel()
            raise timed_out()
        try:
            response = posting.result()
        except httpx.HTTPError as error:
            gone.cancel()
            raise unreachable(error) from None
        call.status = response.status_code
        try:
            if response.status_code != 200:
                await response.aread()
                raise model_error(response)
            back = self._passed_back(call.target, response)
            back["x-amzn-sagemaker-content-type"] = back.pop("content-type", "application/octet-stream")
            back["content-type"] = event_stream.CONTENT_TYPE
            await send(head(200, back))
            parts = response.aiter_raw()
            while True:
                coming = asyncio.ensure_future(anext(parts, b""))
                await asyncio.wait(
                    {coming, gone}, timeout=ends - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                if not coming.done():
                    coming.cancel()
                    if not gone.done():
                        call.status = 0
                        await _break_off(
                            send, "the stream took longer than AWS allows", "ModelInvocationTimeExceeded"
                        )
                    return
                try:
                    part = coming.result()
                except httpx.HTTPError as error:
                    call.status = 0
                    await _break_off(
                        send, f"the container broke off ({type(error).__name__})", "StreamBroken"
                    )
                    return
                if not part:
                    break
                await send(
                    {"type": "http.response.body", "body": event_stream.payload_part(part), "more_body": True}
                )
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await response.aclose()

    async def _post(self, call: _Call, *, stream: bool = False) -> httpx.Response:
        url = f"{call.target.gateway_url}/invocations"
        request = self._containers.build_request("POST", url, content=call.body, headers=dict(call.headers))
        return await self._containers.send(request, stream=stream)

    @staticmethod
    def _passed_back(target: Target, response: httpx.Response) -> dict[str, str]:
        """The only headers of a container that reach the caller."""
        kept = {
            name: response.headers[name] for name in ("content-type", _ATTRIBUTES) if name in response.headers
        }
        if target.notice:
            kept.setdefault(_ATTRIBUTES, target.notice)
        return {**kept, "x-amzn-invoked-production-variant": target.variant}


async def _break_off(send: Send, reason: str, code: str) -> None:
    await send({"type": "http.response.body", "body": event_stream.model_stream_error(reason, code)})


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    too_large = False
    try:
        async for part in body_parts(receive):
            if not too_large:
                body += part
                # Read on without keeping it: a client that is still sending would not see the answer.
                too_large = len(body) > MAX_BODY
    except DisconnectedError:
        raise RefusedError(
            400, "ValidationError", "the connection was closed before the body's end"
        ) from None
    if too_large:
        raise RefusedError(
            413, "RequestEntityTooLargeException", f"the body is larger than {MAX_BODY:,} bytes, AWS's limit"
        )
    return bytes(body)
