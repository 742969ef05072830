"""A network stream of httpcore that sends the head and the body of a request together."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore


class OneWriteStream(httpcore.AsyncNetworkStream):
    """Sends what was written when something is to be read.

    httpcore writes the head of a request, then its body. Each write is a system call, a packet and a timeout
    of its own.

    Args:
        stream: The stream below.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Send what was written, and return the next bytes."""
        if self._unsent:
            unsent, self._unsent = b"".join(self._unsent), []
            # A server that refuses a long body answers before it has read it, as httpcore knows too.
            with contextlib.suppress(httpcore.WriteError):
                await self._stream.write(unsent, timeout)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - see read
        """Keep bytes for the next ``read``."""
        self._unsent.append(buffer)

    async def aclose(self) -> None:
        """Close the stream below; what was not sent is not sent."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the stream with TLS."""
        return OneWriteStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the stream below says."""
        return self._stream.get_extra_info(info)


class OneWriteBackend(httpcore.AnyIOBackend):
    """Connects with such streams."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host."""
        return OneWriteStream(await super().connect_tcp(host, port, timeout, local_address, socket_options))
