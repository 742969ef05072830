"""Calls by httpcore, for asyncio: signed by botocore's signer, streams decoded by botocore's decoder."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

import anyio
import anyio.to_thread
import certifi
import httpcore

from inf2kit import aws
from inf2kit._version import __version__
from inf2kit.client import failures
from inf2kit.client.answers import Reply
from inf2kit.client.frames import FrameReader
from inf2kit.client.one_write import OneWriteBackend
from inf2kit.client.options import CONNECT_TIMEOUT_S
from inf2kit.client.requests import Call

_SERVICE = "sagemaker"
_USER_AGENT = f"inf2kit/{__version__} httpcore/{httpcore.__version__}"
#: Seconds that a connection waits for a further request.
_KEEP_ALIVE_S = 50.0


class ConnectionPool:
    """Connections to one address, each of them for the event loop that opened it.

    httpcore's own pool compares all its connections with each other for each request, which takes more time
    than the requests from some tens of connections on. So it only makes them here.

    Args:
        url: The address.
        proxy: The address of a proxy, which may have a user and a password, or None.
        ca_bundle: A file of certificates that are trusted; None for those of certifi, as botocore does.
    """

    def __init__(self, url: str, proxy: str | None, ca_bundle: str | None) -> None:
        self._origin = httpcore.URL(url).origin
        self._proxy, self._ca_bundle = proxy, ca_bundle
        #: By event loop: connections, the last one used last, and until when each of them waits.
        self._idle: dict[asyncio.AbstractEventLoop, deque[tuple[httpcore.AsyncConnectionInterface, float]]]
        self._idle = {}

    async def take(self) -> httpcore.AsyncConnectionInterface:
        """Return a connection that nobody uses, the last one that was given back or a new one.

        Raises:
            OSError: the file of certificates cannot be read.
        """
        idle = self._idle_here()
        while idle:
            connection, _ = idle.pop()
            # A server closes connections that wait, and a request on one of those would be lost.
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return self._maker.create_connection(self._origin)

    async def give_back(self, connection: httpcore.AsyncConnectionInterface) -> None:
        """Keep a connection for further requests, or close it if its last answer was not read to its end."""
        idle, now = self._idle_here(), time.monotonic()
        if connection.is_available():
            idle.append((connection, now + _KEEP_ALIVE_S))
        else:
            await connection.aclose()
        if idle and idle[0][1] < now:
            expired, _ = idle.popleft()
            await expired.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop that nobody uses."""
        idle = self._idle_here()
        while idle:
            connection, _ = idle.pop()
            await connection.aclose()

    def _idle_here(self) -> deque[tuple[httpcore.AsyncConnectionInterface, float]]:
        loop = asyncio.get_running_loop()
        if loop not in self._idle:
            for other in list(self._idle):
                if other.is_closed():
                    self._idle.pop(other, None)
        return self._idle.setdefault(loop, deque())

    @functools.cached_property
    def _maker(self) -> httpcore.AsyncConnectionPool:
        context = _ssl_context(self._ca_bundle) if self._origin.scheme == b"https" else None
        if self._proxy is None:
            return httpcore.AsyncConnectionPool(
                context, keepalive_expiry=_KEEP_ALIVE_S, network_backend=OneWriteBackend()
            )
        parts = urlsplit(self._proxy)
        return httpcore.AsyncHTTPProxy(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            proxy_auth=(unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
            ssl_context=context,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=OneWriteBackend(),
        )


class Exchange:
    """A request and the head of its response, whose body is still to be read.

    Args:
        pool: Where the connection goes back to.
        connection: The connection.
        response: httpcore's response.

    Attributes:
        status: The response's status.
        headers: Its headers, by lower-case names.
        request_id: AWS's id of the request.
    """

    def __init__(
        self, pool: ConnectionPool, connection: httpcore.AsyncConnectionInterface, response: httpcore.Response
    ) -> None:
        self._pool, self._connection, self._response = pool, connection, response
        self.status: int = response.status
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
        }
        self.request_id = self.headers.get("x-amzn-requestid")
        self._is_open = True

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([part async for part in self._response.aiter_stream()])

    def parts(self) -> AsyncIterator[bytes]:
        """Return the body, as it comes."""
        return self._response.aiter_stream()

    async def close(self) -> None:
        """Give the connection back; close it unless the body was read to its end."""
        if self._is_open:
            self._is_open = False
            with anyio.CancelScope(shield=True):
                await self._response.aclose()
                await self._pool.give_back(self._connection)


class AsyncOpenStream:
    """A streamed answer that has begun: an asynchronous iterator of its bytes.

    Args:
        endpoint: The endpoint's name, for errors.
        exchange: The request and its response.
        ends_at: The monotonic second at which it must have ended.
        limit_s: Seconds from the call to that, for the error.
    """

    def __init__(self, endpoint: str, exchange: Exchange, ends_at: float, limit_s: float) -> None:
        self._endpoint, self._exchange = endpoint, exchange
        self._ends_at, self._limit_s = ends_at, limit_s
        self.request_id = exchange.request_id

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the answer's bytes as they come.

        Raises:
            EndpointError: it broke off, or took too long.
        """
        frames = FrameReader(self._endpoint, self.request_id)
        try:
            async for received in self._exchange.parts():
                for part in frames.feed(received):
                    yield part
                if time.monotonic() > self._ends_at:
                    raise failures.timed_out(self._endpoint, self._limit_s, self.request_id)
        except Exception as error:
            _raise(error, self._endpoint, self._limit_s, self.request_id)

    async def close(self) -> None:
        """Close the connection unless the answer was read to its end. The endpoint then frees its row."""
        await self._exchange.close()


class HttpcoreTransport:
    """One endpoint, by httpcore. The tasks of several event loops may share it.

    Args:
        endpoint: The EndpointName.
        url: The address of SageMaker's runtime API.
        region: The region, for signatures.
        load_credentials: Returns botocore's credentials, or None. It may call AWS, so it runs in a thread.
        proxy: The address of a proxy, or None.
        ca_bundle: A file of certificates that are trusted, or None.
    """

    def __init__(
        self,
        endpoint: str,
        url: str,
        region: str,
        load_credentials: Callable[[], Any],
        *,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self._endpoint, self._region = endpoint, region
        self._base = f"{url.rstrip('/')}/endpoints/{quote(endpoint, safe='')}"
        self._load_credentials = load_credentials
        self._credentials: Any = None
        self._pool = ConnectionPool(url, proxy, ca_bundle)

    async def invoke(self, call: Call, limit_s: float, read_s: float) -> Reply:
        """Send a call and return its whole answer.

        Args:
            call: What to send.
            limit_s: Seconds that the answer may take.
            read_s: Seconds that may pass without a byte.

        Raises:
            EndpointError: of the kind that ``inf2kit.errors`` describes.
        """
        exchange = None
        try:
            with anyio.fail_after(limit_s):
                exchange = await self._send("invocations", call.body, read_s)
                body = await exchange.read()
            self._check(exchange, body)
            return Reply(body, exchange.headers.get("content-type"), exchange.request_id)
        except Exception as error:
            _raise(error, self._endpoint, limit_s, exchange.request_id if exchange else None)
        finally:
            if exchange is not None:
                await exchange.close()

    async def open_stream(self, call: Call, limit_s: float, read_s: float) -> AsyncOpenStream:
        """Send a call and return its streamed answer.

        Raises:
            EndpointError: the call was refused, or could not be sent.
        """
        ends_at = time.monotonic() + limit_s
        exchange = None
        try:
            with anyio.fail_after(limit_s):
                exchange = await self._send("invocations-response-stream", call.body, read_s)
                if exchange.status != 200:
                    self._check(exchange, await exchange.read())
        except BaseException as error:
            if exchange is not None:
                await exchange.close()
            _raise(error, self._endpoint, limit_s, exchange.request_id if exchange else None)
        return AsyncOpenStream(self._endpoint, exchange, ends_at, limit_s)

    async def aclose(self) -> None:
        """Close all connections. The next call opens new ones."""
        await self._pool.aclose()

    async def _send(self, operation: str, body: bytes, read_s: float) -> Exchange:
        """Send a signed request, and return its response without its body."""
        request = await self._request(f"{self._base}/{operation}", body, read_s)
        connection = await self._pool.take()
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await connection.aclose()
            raise
        return Exchange(self._pool, connection, response)

    async def _request(self, url: str, body: bytes, read_s: float) -> httpcore.Request:
        """Build a signed request."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        to_sign = {"Host": _host(url), "Content-Type": "application/json"}
        signed = AWSRequest("POST", url, headers=to_sign, data=body)
        SigV4Auth(await self._frozen_credentials(), _SERVICE, self._region).add_auth(signed)
        headers: dict[bytes | str, bytes | str] = {
            **signed.headers,
            "Accept-Encoding": "identity",
            "Content-Length": str(len(body)),
            "User-Agent": _USER_AGENT,
        }
        timeout = {"connect": CONNECT_TIMEOUT_S, "read": read_s, "write": read_s}
        return httpcore.Request("POST", url, headers=headers, content=body, extensions={"timeout": timeout})

    async def _frozen_credentials(self) -> Any:
        from botocore.exceptions import NoCredentialsError

        if self._credentials is None:
            self._credentials = await anyio.to_thread.run_sync(self._load_credentials)
        if self._credentials is None:
            raise NoCredentialsError
        needs_refresh = getattr(self._credentials, "refresh_needed", None)
        if needs_refresh is not None and needs_refresh():
            return await anyio.to_thread.run_sync(aws.freeze, self._credentials)
        return aws.freeze(self._credentials)

    def _check(self, exchange: Exchange, body: bytes) -> None:
        if exchange.status != 200:
            refusal = failures.Refusal.from_http(exchange.status, exchange.headers, body)
            raise refusal.to_error(self._endpoint)


def _host(url: str) -> str:
    """Return the value of the Host header, without a default port, as botocore has it."""
    parts = urlsplit(url)
    default = ":443" if parts.scheme == "https" else ":80"
    return parts.netloc.rpartition("@")[2].removesuffix(default)


@functools.cache
def _ssl_context(ca_bundle: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_bundle or certifi.where())


def _raise(error: BaseException, endpoint: str, limit_s: float, request_id: str | None) -> NoReturn:
    """Raise EndpointError of the fitting kind in place of httpcore's and botocore's exceptions."""

    if isinstance(error, (TimeoutError, httpcore.ReadTimeout, httpcore.WriteTimeout)):
        raise failures.timed_out(endpoint, limit_s, request_id) from None
    if isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError, OSError)):
        raise failures.unreachable(endpoint, failures.phrase(error)) from None
    if isinstance(error, (httpcore.NetworkError, httpcore.ProtocolError)):
        raise failures.interrupted(endpoint, failures.phrase(error), request_id) from None
    failures.raise_unsigned(error, endpoint)
