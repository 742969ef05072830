"""Calls by httpx, for asyncio: signed by botocore's signer, streams decoded by botocore's decoder."""

from __future__ import annotations

import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx

from inf2kit import aws
from inf2kit.client import failures
from inf2kit.client.answers import Reply
from inf2kit.client.frames import FrameReader
from inf2kit.client.options import CONNECT_TIMEOUT_S
from inf2kit.client.requests import Call
from inf2kit.errors import EndpointAccessError

_SERVICE = "sagemaker"


class AsyncOpenStream:
    """A streamed answer that has begun: an asynchronous iterator of its bytes.

    Args:
        endpoint: The endpoint's name, for errors.
        response: httpx's response, whose body was not read.
        ends_at: The monotonic second at which it must have ended.
        limit_s: Seconds from the call to that, for the error.
    """

    def __init__(self, endpoint: str, response: httpx.Response, ends_at: float, limit_s: float) -> None:
        self._endpoint, self._response = endpoint, response
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
        await self._response.aclose()


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
        self._is_local = is_local
        self._client: httpx.AsyncClient | None = None
        self._loop: object = None

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
        response = await self._send("invocations", call.body, limit_s, read_s, {})
        request_id = _request_id(response)
        try:
            with _translate_errors(self._endpoint, limit_s, request_id):
                with anyio.fail_after(ends_at - time.monotonic()):
                    await response.aread()
                self._check(response)
        finally:
            await response.aclose()
        return Reply(response.content, response.headers.get("content-type"), request_id)

    async def open_stream(self, call: Call, limit_s: float, read_s: float) -> AsyncOpenStream:
        """Send a call and return its streamed answer.

        Raises:
            EndpointError: the call was refused, or could not be sent.
        """
        ends_at = time.monotonic() + limit_s
        response = await self._send("invocations-response-stream", call.body, limit_s, read_s, {})
        try:
            if response.status_code != 200:
                with _translate_errors(self._endpoint, limit_s, _request_id(response)):
                    await response.aread()
                    self._check(response)
        except BaseException:
            await response.aclose()
            raise
        return AsyncOpenStream(self._endpoint, response, ends_at, limit_s)

    async def _send(
        self, operation: str, body: bytes, limit_s: float, read_s: float, headers: dict[str, str]
    ) -> httpx.Response:
        """Send a signed request, and return its response without its body."""
        with _translate_errors(self._endpoint, limit_s), anyio.fail_after(limit_s):
            request = await self._request(operation, body, read_s, headers)
            return await self._http().send(request, stream=True)

    async def aclose(self) -> None:
        """Close all connections. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _http(self) -> httpx.AsyncClient:
        """The client of the running event loop: connections die with the loop that opened them."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop = loop
            self._client = httpx.AsyncClient(
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
                verify=_certificates(os.environ.get("AWS_CA_BUNDLE")),
                trust_env=not self._is_local,
                follow_redirects=False,
            )
        return self._client

    async def _request(
        self, operation: str, body: bytes, read_s: float, headers: dict[str, str]
    ) -> httpx.Request:
        """Build a signed request."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        url = f"{self._base}/{operation}"
        request = AWSRequest("POST", url, headers={"Content-Type": "application/json", **headers}, data=body)
        SigV4Auth(await self._frozen_credentials(), _SERVICE, self._region).add_auth(request)
        timeout = httpx.Timeout(read_s, connect=CONNECT_TIMEOUT_S, pool=None)
        return self._http().build_request(
            "POST", url, headers=dict(request.headers.items()), content=body, timeout=timeout
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
