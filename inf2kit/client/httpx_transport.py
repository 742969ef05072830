"""Calls by httpx, for asyncio: signed by botocore's signer, streams decoded by botocore's decoder."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.to_thread
import httpx

from inf2kit import aws
from inf2kit._version import __version__
from inf2kit.client import failures
from inf2kit.client.answers import Reply
from inf2kit.client.frames import FrameReader
from inf2kit.client.options import CONNECT_TIMEOUT_S
from inf2kit.client.requests import Call
from inf2kit.errors import EndpointAccessError

_SERVICE = "sagemaker"
_USER_AGENT = f"inf2kit/{__version__} httpx/{httpx.__version__}"
#: Connections that wait for a further request, and how many seconds each of them does.
_MAX_IDLE, _KEEP_ALIVE_S = 256, 50.0


class ConnectionPool:
    """Connections, each in a transport of httpx of its own, for one event loop at a time.

    httpx's own pool compares all its connections with each other for each request, which takes more time
    than the requests from some tens of connections on.

    Args:
        proxy: The address of a proxy, or None.
    """

    def __init__(self, proxy: str | None) -> None:
        self._proxy = proxy
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._loop: object = None

    def take(self) -> httpx.AsyncHTTPTransport:
        """Return a connection that nobody uses, the last one that was given back or a new one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Connections die with the loop that opened them.
            self._loop, self._idle = loop, []
        if self._idle:
            return self._idle.pop()
        return httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEEP_ALIVE_S),
            verify=_certificates(os.environ.get("AWS_CA_BUNDLE")),
            proxy=self._proxy,
        )

    async def give_back(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Keep a connection for further requests, or close it if there are enough."""
        if len(self._idle) < _MAX_IDLE and self._loop is asyncio.get_running_loop():
            self._idle.append(connection)
        else:
            await connection.aclose()

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()


class AsyncOpenStream:
    """A streamed answer that has begun: an asynchronous iterator of its bytes.

    Args:
        endpoint: The endpoint's name, for errors.
        response: httpx's response, whose body was not read.
        give_back: Gives the response's connection back.
        ends_at: The monotonic second at which it must have ended.
        limit_s: Seconds from the call to that, for the error.
    """

    def __init__(
        self,
        endpoint: str,
        response: httpx.Response,
        give_back: Callable[[], Awaitable[None]],
        ends_at: float,
        limit_s: float,
    ) -> None:
        self._endpoint, self._response, self._give_back = endpoint, response, give_back
        self._ends_at, self._limit_s = ends_at, limit_s
        self.request_id = _request_id(response)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the answer's bytes as they come.

        Raises:
            EndpointError: it broke off, or took too long.
        """
        frames = FrameReader(self._endpoint, self.request_id)
        with _translate_errors(self._endpoint, self._limit_s, self.request_id):
            async for received in self._response.aiter_raw():
                for part in frames.feed(received):
                    yield part
                if time.monotonic() > self._ends_at:
                    raise failures.timed_out(self._endpoint, self._limit_s, self.request_id)

    async def close(self) -> None:
        """Close the connection unless the answer was read to its end. The endpoint then frees its row."""
        if not self._response.is_closed:
            await self._response.aclose()
        give_back, self._give_back = self._give_back, _nothing
        await give_back()


class HttpxTransport:
    """One endpoint, by httpx. The tasks of one event loop at a time may share it.

    Args:
        endpoint: The EndpointName.
        url: The address of SageMaker's runtime API.
        region: The region, for signatures.
        load_credentials: Returns botocore's credentials, or None. It may call AWS, so it runs in a thread.
        is_local: Whether the address is on this machine, where no proxy is asked.
    """

    def __init__(
        self,
        endpoint: str,
        url: str,
        region: str,
        load_credentials: Callable[[], Any],
        *,
        is_local: bool = False,
    ) -> None:
        self._endpoint, self._region = endpoint, region
        self._base = f"{url.rstrip('/')}/endpoints/{quote(endpoint, safe='')}"
        self._load_credentials = load_credentials
        self._credentials: Any = None
        self._pool = ConnectionPool(None if is_local else _environment_proxy(url))

    async def invoke(self, call: Call, limit_s: float, read_s: float) -> Reply:
        """Send a call and return its whole answer.

        Args:
            call: What to send.
            limit_s: Seconds that the answer may take.
            read_s: Seconds that may pass without a byte.

        Raises:
            EndpointError: of the kind that ``inf2kit.errors`` describes.
        """
        ends_at = time.monotonic() + limit_s
        connection = self._pool.take()
        try:
            response = await self._send(connection, "invocations", call.body, limit_s, read_s)
            request_id = _request_id(response)
            try:
                with _translate_errors(self._endpoint, limit_s, request_id):
                    with anyio.fail_after(ends_at - time.monotonic()):
                        await response.aread()
                    self._check(response)
            finally:
                await response.aclose()
        finally:
            await self._pool.give_back(connection)
        return Reply(response.content, response.headers.get("content-type"), request_id)

    async def open_stream(self, call: Call, limit_s: float, read_s: float) -> AsyncOpenStream:
        """Send a call and return its streamed answer.

        Raises:
            EndpointError: the call was refused, or could not be sent.
        """
        ends_at = time.monotonic() + limit_s
        connection = self._pool.take()
        give_back = functools.partial(self._pool.give_back, connection)
        try:
            response = await self._send(connection, "invocations-response-stream", call.body, limit_s, read_s)
        except BaseException:
            await give_back()
            raise
        stream = AsyncOpenStream(self._endpoint, response, give_back, ends_at, limit_s)
        try:
            if response.status_code != 200:
                with _translate_errors(self._endpoint, limit_s, stream.request_id):
                    await response.aread()
                    self._check(response)
        except BaseException:
            await stream.close()
            raise
        return stream

    async def _send(
        self,
        connection: httpx.AsyncHTTPTransport,
        operation: str,
        body: bytes,
        limit_s: float,
        read_s: float,
    ) -> httpx.Response:
        """Send a signed request, and return its response without its body."""
        with _translate_errors(self._endpoint, limit_s), anyio.fail_after(limit_s):
            request = await self._request(operation, body, read_s)
            return await connection.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections. The next call opens new ones."""
        await self._pool.aclose()

    async def _request(self, operation: str, body: bytes, read_s: float) -> httpx.Request:
        """Build a signed request."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        url = f"{self._base}/{operation}"
        signed = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=body)
        SigV4Auth(await self._frozen_credentials(), _SERVICE, self._region).add_auth(signed)
        timeout = httpx.Timeout(read_s, connect=CONNECT_TIMEOUT_S)
        return httpx.Request(
            "POST",
            url,
            headers={**signed.headers, "User-Agent": _USER_AGENT},
            content=body,
            extensions={"timeout": timeout.as_dict()},
        )

    async def _frozen_credentials(self) -> Any:
        from botocore.exceptions import NoCredentialsError

        if self._credentials is None:
            self._credentials = await anyio.to_thread.run_sync(self._load_credentials)
        if self._credentials is None:
            raise NoCredentialsError
        needs_refresh = getattr(self._credentials, "refresh_needed", None)
        if needs_refresh is not None and needs_refresh():
            return await anyio.to_thread.run_sync(self._credentials.get_frozen_credentials)
        return self._credentials.get_frozen_credentials()

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            refusal = failures.Refusal.from_http(response.status_code, response.headers, response.content)
            raise refusal.to_error(self._endpoint)


async def _nothing() -> None:
    """Give back what is given back already."""


def _environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address, as botocore reads it."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


@functools.cache
def _certificates(bundle: str | None) -> ssl.SSLContext:
    """The certificates that are trusted: those of a bundle, as for botocore, or httpx's own."""
    return ssl.create_default_context(cafile=bundle) if bundle else httpx.create_ssl_context()


@contextmanager
def _translate_errors(endpoint: str, limit_s: float, request_id: str | None = None) -> Iterator[None]:
    """Raise EndpointError of the fitting kind in place of httpx's and botocore's exceptions."""
    from botocore import exceptions

    try:
        yield
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
        raise failures.timed_out(endpoint, limit_s, request_id) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
        raise failures.unreachable(endpoint, _phrase(error)) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise failures.interrupted(endpoint, _phrase(error), request_id) from None
    except exceptions.BotoCoreError as error:
        with aws.translate_errors(EndpointAccessError, f"calling the endpoint {endpoint!r}"):
            raise error


def _request_id(response: httpx.Response) -> str | None:
    request_id: str | None = response.headers.get("x-amzn-requestid")
    return request_id


def _phrase(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
