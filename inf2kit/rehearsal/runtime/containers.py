"""Calls to the endpoints' containers, within the limits of AWS."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from inf2kit.rehearsal.runtime.errors import timeout_error, unreachable_error, validation_error

#: Seconds until the response, or until the first part of a streamed one; seconds until the end of a stream.
CALL_LIMIT_S = 60.0
STREAM_LIMIT_S = 480.0
#: AWS's codes of a stream that ended early: its time was over, or the container broke off.
TOO_LONG, BROKEN = "ModelInvocationTimeExceeded", "StreamBroken"


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


def check_target(name: str, target: Target | None, account: str) -> Target:
    """Return the container that takes a call of an endpoint.

    Raises:
        RuntimeAPIError: there is no such endpoint, or it takes no calls.
    """
    if target is None:
        raise validation_error(f"Endpoint {name} of account {account} not found.")
    if target.status != "InService":
        raise validation_error(
            f"Endpoint {name} of account {account} is in status {target.status}, not InService."
        )
    return target


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
class Call:
    """A running call.

    Attributes:
        target: The container that takes it.
        path: The path on the container's port.
        body: The body, as the caller sent it.
        headers: The headers that reach the container.
        status: The container's status, 0 before it answers, and None if the caller leaves before that.
        model_s: Seconds that the container took.
    """

    target: Target
    path: str
    body: bytes
    headers: Mapping[str, str]
    status: int | None = 0
    model_s: float = 0.0


class CallerLeftError(Exception):
    """The caller closed the connection."""


class StreamBrokenError(Exception):
    """A container's stream ended early.

    Attributes:
        code: ``TOO_LONG`` or ``BROKEN``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Containers:
    """Sends calls to containers.

    Args:
        call_limit_s: Seconds until the response, or until its head if it is streamed.
        observe: Called with the endpoint's name, the container and the outcome after every call that reached
            a container, unless its caller left before the answer.
    """

    def __init__(self, call_limit_s: float, observe: Callable[[str, Target, Outcome], None]) -> None:
        self.call_limit_s = call_limit_s
        self._observe = observe
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - the whole call is bounded below
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0),
            trust_env=False,
        )

    @contextlib.contextmanager
    def running(self, name: str, call: Call) -> Iterator[None]:
        """Count a call of an endpoint while it runs, and report its outcome."""
        began = time.perf_counter()
        call.target.in_flight += 1
        try:
            yield
        finally:
            call.target.in_flight -= 1
            if call.status is not None:
                overhead_s = time.perf_counter() - began - call.model_s
                self._observe(name, call.target, Outcome(call.status, call.model_s, overhead_s))

    @contextlib.contextmanager
    def timed(self, call: Call) -> Iterator[None]:
        """Measure the container's seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            call.model_s = time.perf_counter() - began

    async def post(self, call: Call) -> httpx.Response:
        """Send a call and return the whole response.

        Raises:
            RuntimeAPIError: there is none, or not in time.
        """
        try:
            response = await asyncio.wait_for(self._send(call), self.call_limit_s)
            await response.aread()
        except asyncio.TimeoutError:
            raise timeout_error() from None
        except httpx.HTTPError as error:
            raise unreachable_error(error) from None
        call.status = response.status_code
        return response

    async def open(self, call: Call, caller_left: asyncio.Future[None]) -> httpx.Response:
        """Send a call and return the response as soon as it begins, to be closed by the caller.

        Raises:
            RuntimeAPIError: there is none, or not in time.
            CallerLeftError: the caller has left.
        """
        posting = asyncio.ensure_future(self._send(call, stream=True))
        waiting: set[asyncio.Future[Any]] = {posting, caller_left}
        await asyncio.wait(waiting, timeout=self.call_limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not posting.done():
            posting.cancel()
            if caller_left.done():
                call.status = None
                raise CallerLeftError
            raise timeout_error()
        try:
            response = posting.result()
        except httpx.HTTPError as error:
            raise unreachable_error(error) from None
        call.status = response.status_code
        return response

    async def parts(
        self, call: Call, response: httpx.Response, caller_left: asyncio.Future[None], ends: float
    ) -> AsyncIterator[bytes]:
        """Yield the parts of an open response as they come, until the event loop's time ``ends``.

        Raises:
            StreamBrokenError: it ended early.
            CallerLeftError: the caller has left.
        """
        parts = response.aiter_raw()
        loop = asyncio.get_running_loop()
        while True:
            reading = asyncio.ensure_future(anext(parts, b""))
            waiting: set[asyncio.Future[Any]] = {reading, caller_left}
            await asyncio.wait(waiting, timeout=ends - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                if caller_left.done():
                    raise CallerLeftError
                call.status = 0
                raise StreamBrokenError("the stream took longer than AWS allows", TOO_LONG)
            try:
                part = reading.result()
            except httpx.HTTPError as error:
                call.status = 0
                message = f"the container broke off ({type(error).__name__})"
                raise StreamBrokenError(message, BROKEN) from None
            if not part:
                return
            yield part

    async def _send(self, call: Call, *, stream: bool = False) -> httpx.Response:
        url = f"{call.target.gateway_url}{call.path}"
        request = self._client.build_request("POST", url, content=call.body, headers=dict(call.headers))
        return await self._client.send(request, stream=stream)
