"""SageMaker's runtime API as an ASGI application, which passes calls on to the endpoints' containers.

It has the limits of AWS: 60 s for a call, 6 MB for a request body, and only the headers that AWS passes on.
It does not check signatures.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx

from inf2kit.rehearsal.runtime import event_stream
from inf2kit.rehearsal.runtime.errors import (
    HEADER_PREFIX,
    RuntimeAPIError,
    check_parameters,
    model_error,
    timeout_error,
    unreachable_error,
    validation_error,
)
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

#: Bytes of a request body (from botocore's model of InvokeEndpoint).
MAX_BODY = 6_291_456
#: Seconds until the response, or until the first part of a streamed one; seconds until the end of a stream.
CALL_LIMIT_S = 60.0
STREAM_LIMIT_S = 480.0

_ROUTE = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")
_ATTRIBUTES = f"{HEADER_PREFIX}custom-attributes"


@dataclass(eq=False)
class Target:
    """The container that takes an endpoint's calls.

    Attributes:
        gateway_url: The URL of the container's port.
        status: The EndpointStatus of DescribeEndpoint. Calls are refused unless it is ``InService``.
        variant: The name of the production variant.
        notice: What is simulated; responses have it among their custom attributes.
        in_flight: The number of running calls.
    """

    gateway_url: str
    status: str
    variant: str = "AllTraffic"
    notice: str = ""
    in_flight: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call.

    Attributes:
        status: The container's HTTP status; 0 if it did not answer, or not in time.
        model_s: Seconds from the request to the container to the last byte of its response.
        overhead_s: Seconds of everything else.
    """

    status: int
    model_s: float
    overhead_s: float


@dataclass
class _Call:
    """A running call. ``status`` becomes None if the caller leaves before the container answers."""

    target: Target
    body: bytes
    headers: Mapping[str, str]
    status: int | None = 0
    model_s: float = 0.0


class SageMakerRuntime:
    """An ASGI application that implements InvokeEndpoint and InvokeEndpointWithResponseStream.

    Args:
        find_target: Returns the container that takes the next call, given the endpoint's name and the variant
            that the caller asks for (empty for any); None if there is no such endpoint.
        call_limit_s: Seconds a call may take.
        observe: Called with the endpoint's name, the container and the outcome after every call that reached
            a container, unless its caller left before the answer.
    """

    def __init__(
        self,
        find_target: Callable[[str, str], Target | None],
        *,
        call_limit_s: float = CALL_LIMIT_S,
        observe: Callable[[str, Target, Outcome], None] = lambda _name, _target, _outcome: None,
    ) -> None:
        self._find_target = find_target
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
        except RuntimeAPIError as error:
            headers = {"content-type": "application/json", "x-amzn-errortype": error.kind, **new_request_id()}
            await answer(send, error.status, json.dumps(error.body).encode(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"])
        if scope["method"] != "POST" or route is None:
            raise RuntimeAPIError(404, "UnknownOperationException", f"no operation at {scope['path']}")
        body = await _read_body(receive)
        name, is_streamed = unquote(route[1]), route[2] == "invocations-response-stream"
        headers = request_headers(scope)
        target = self._find_target(name, headers.get(f"{HEADER_PREFIX}target-variant", ""))
        if target is None:
            raise validation_error(f"Endpoint {name} of account 000000000000 not found.")
        if target.status != "InService":
            raise validation_error(
                f"Endpoint {name} of account 000000000000 is in status {target.status}, not InService."
            )
        operation = "InvokeEndpointWithResponseStream" if is_streamed else "InvokeEndpoint"
        check_parameters(operation, name, headers, target.variant)
        call = _Call(target, body, _container_headers(headers, is_streamed=is_streamed))
        began = time.perf_counter()
        target.in_flight += 1
        try:
            if is_streamed:
                await self._stream(call, receive, send)
            else:
                await self._respond(call, send)
        finally:
            target.in_flight -= 1
            if call.status is not None:
                overhead_s = time.perf_counter() - began - call.model_s
                self._observe(name, target, Outcome(call.status, call.model_s, overhead_s))

    async def _respond(self, call: _Call, send: Send) -> None:
        """Answer with the container's whole response."""
        began = time.perf_counter()
        try:
            response = await asyncio.wait_for(self._post(call), self._call_limit_s)
            await response.aread()
            call.status = response.status_code
        except asyncio.TimeoutError:
            raise timeout_error() from None
        except httpx.HTTPError as error:
            raise unreachable_error(error) from None
        finally:
            call.model_s = time.perf_counter() - began
        if response.status_code != 200:
            raise model_error(response)
        await answer(send, 200, response.content, _response_headers(call.target, response))

    async def _stream(self, call: _Call, receive: Receive, send: Send) -> None:
        """Answer with the container's response as an event stream, part by part."""
        began = time.perf_counter()
        ends = asyncio.get_running_loop().time() + STREAM_LIMIT_S
        caller_left = asyncio.ensure_future(disconnected(receive))
        try:
            response = await self._open_stream(call, caller_left)
            if response is None:
                return
            try:
                await self._pass_stream(call, response, caller_left, ends, send)
            finally:
                await response.aclose()
        finally:
            caller_left.cancel()
            call.model_s = time.perf_counter() - began

    async def _open_stream(self, call: _Call, caller_left: asyncio.Future[None]) -> httpx.Response | None:
        """The start of the container's response; None if the caller leaves before."""
        posting = asyncio.ensure_future(self._post(call, stream=True))
        waiting: set[asyncio.Future[Any]] = {posting, caller_left}
        await asyncio.wait(waiting, timeout=self._call_limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not posting.done():
            posting.cancel()
            if caller_left.done():
                call.status = None
                return None
            raise timeout_error()
        try:
            return posting.result()
        except httpx.HTTPError as error:
            raise unreachable_error(error) from None

    async def _pass_stream(
        self,
        call: _Call,
        response: httpx.Response,
        caller_left: asyncio.Future[None],
        ends: float,
        send: Send,
    ) -> None:
        call.status = response.status_code
        if response.status_code != 200:
            await response.aread()
            raise model_error(response)
        headers = _response_headers(call.target, response)
        headers["x-amzn-sagemaker-content-type"] = headers.pop("content-type", "application/octet-stream")
        headers["content-type"] = event_stream.CONTENT_TYPE
        await send(head(200, headers))
        parts = response.aiter_raw()
        loop = asyncio.get_running_loop()
        while True:
            reading = asyncio.ensure_future(anext(parts, b""))
            waiting: set[asyncio.Future[Any]] = {reading, caller_left}
            await asyncio.wait(waiting, timeout=ends - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                if not caller_left.done():
                    call.status = 0
                    message = "the stream took longer than AWS allows"
                    await _end_with_error(send, message, "ModelInvocationTimeExceeded")
                return
            try:
                part = reading.result()
            except httpx.HTTPError as error:
                call.status = 0
                await _end_with_error(
                    send, f"the container broke off ({type(error).__name__})", "StreamBroken"
                )
                return
            if not part:
                break
            frame = event_stream.encode_payload_part(part)
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _post(self, call: _Call, *, stream: bool = False) -> httpx.Response:
        url = f"{call.target.gateway_url}/invocations"
        request = self._containers.build_request("POST", url, content=call.body, headers=dict(call.headers))
        return await self._containers.send(request, stream=stream)


def _container_headers(headers: Mapping[str, str], *, is_streamed: bool) -> dict[str, str]:
    """The only headers of a caller that reach the container."""
    accept = f"{HEADER_PREFIX}accept" if is_streamed else "accept"
    passed = {
        "content-type": headers.get("content-type", "application/json"),
        "accept": headers.get(accept, "*/*"),
    }
    if _ATTRIBUTES in headers:
        passed[_ATTRIBUTES] = headers[_ATTRIBUTES]
    return passed


def _response_headers(target: Target, response: httpx.Response) -> dict[str, str]:
    """The only headers of a container that reach the caller, and those of the runtime."""
    passed = {
        name: response.headers[name] for name in ("content-type", _ATTRIBUTES) if name in response.headers
    }
    if target.notice:
        passed.setdefault(_ATTRIBUTES, target.notice)
    return {**passed, "x-amzn-invoked-production-variant": target.variant, **new_request_id()}


def new_request_id() -> dict[str, str]:
    """Return the header that every response of AWS has, and that users give to its support."""
    return {"x-amzn-requestid": str(uuid.uuid4())}


async def _end_with_error(send: Send, message: str, code: str) -> None:
    frame = event_stream.encode_model_stream_error(message, code)
    await send({"type": "http.response.body", "body": frame})


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    is_too_large = False
    try:
        async for part in body_parts(receive):
            if not is_too_large:
                body += part
                # The rest is read and dropped: a client that still sends would not read the response.
                is_too_large = len(body) > MAX_BODY
    except DisconnectedError:
        raise validation_error("the connection was closed before the body's end") from None
    if is_too_large:
        raise RuntimeAPIError(
            413, "RequestEntityTooLargeException", f"the body is larger than {MAX_BODY:,} bytes, AWS's limit"
        )
    return bytes(body)
