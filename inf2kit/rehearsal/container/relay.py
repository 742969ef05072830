"""Leads a caller on this machine's loopback to a container's port 8080, and no web page.

The gateway in a faithful container answers whoever reaches it, as on AWS. On a person's machine
any web page can make a browser call a port of it; so requests are read on their way, and those of browsers
are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct

import h11

from inf2kit.serving.loopback import fault

_PORT = 8080
#: Closes a connection as a port that nobody listens on does: with a reset.
_RESET = struct.pack("ii", 1, 0)


class _Side(asyncio.Protocol):
    """One of the two connections of a call; what comes in here goes out on the other."""

    transport: asyncio.Transport

    def __init__(self, other: _Side | None = None) -> None:
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self.other:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass on that no more will come; the other direction goes on."""
        if self.other and not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Who reads slowly is not sent more."""
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on how it ended: a reset as a reset."""
        other, self.other = self.other, None
        if other is not None:
            if error is None:
                other.transport.close()
            else:
                _reset(other.transport)


class Caller(_Side):
    """A connection from outside; the one to the container is made when it comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the container's port."""
        super().connection_made(transport)
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())
        self._port = int(transport.get_extra_info("sockname")[1])
        self._reader = h11.Connection(h11.SERVER)

    def data_received(self, data: bytes) -> None:
        """Pass on, unless a web page has sent it."""
        try:
            reason = self._fault(data)
        except h11.RemoteProtocolError:
            # The gateway refuses it and hangs up; nothing that might follow is passed on.
            super().data_received(data)
            self.transport.pause_reading()
            return
        if not reason:
            super().data_received(data)
            return
        body = json.dumps({"error": f"this port is for programs of this machine: {reason}"}).encode()
        self.transport.write(
            b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _fault(self, data: bytes) -> str:
        """Read along, and say why a request is refused; nothing where none is."""
        if data:  # nothing would stand for the end
            self._reader.receive_data(data)
        while (event := self._reader.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                scope = {
                    "headers": list(event.headers),
                    "path": event.target.decode("latin-1"),
                    "server": ("127.0.0.1", self._port),
                }
                if reason := fault(scope):
                    return reason
            elif isinstance(event, h11.EndOfMessage):
                rest, _ = self._reader.trailing_data
                self._reader = h11.Connection(h11.SERVER)
                return self._fault(rest)
        return ""

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(lambda: _Side(self), "127.0.0.1", _PORT)
        except OSError:
            _reset(self.transport)
            return
        if self.transport.is_closing():  # it did not wait
            self.connection_lost(None)
        else:
            self.transport.resume_reading()


def _reset(transport: asyncio.Transport) -> None:
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
