"""Relay connections from this machine's loopback to a container's port 8080, and refuse web pages.

The gateway of a faithful container answers everybody who reaches it, as it does on AWS. On a personal machine
any web page can make the browser call a local port. So this relay reads the requests that it passes on, and
refuses those of browsers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct

import h11

from inf2kit.serving.loopback import refusal_reason

_PORT = 8080
#: SO_LINGER with a timeout of 0: closing resets the connection, as a port without a listener does.
_RESET = struct.pack("ii", 1, 0)


class _Connection(asyncio.Protocol):
    """One of the two connections of a relayed call. It writes what it receives to the other one."""

    transport: asyncio.Transport

    def __init__(self, other: _Connection | None = None) -> None:
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a relay needs a stream transport, not {type(transport).__name__}")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass the data on."""
        if self.other:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end of this direction on; the other direction stays open."""
        if self.other and not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Stop reading from the other side while this side reads slowly."""
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """End the other connection in the same way: closed, or reset."""
        other, self.other = self.other, None
        if other is not None:
            if error is None:
                other.transport.close()
            else:
                _reset(other.transport)


class CallerConnection(_Connection):
    """A connection of a caller. It opens one to the container."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the container's port."""
        super().connection_made(transport)
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())
        self._port = int(transport.get_extra_info("sockname")[1])
        self._reader = h11.Connection(h11.SERVER)

    def data_received(self, data: bytes) -> None:
        """Pass the data on, unless a web page sent it."""
        try:
            reason = self._refusal(data)
        except h11.RemoteProtocolError:
            # The gateway refuses the malformed request and hangs up. Nothing after it is passed on.
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

    def _refusal(self, data: bytes) -> str:
        """Parse the requests in the data, and return why one is refused; empty if none is."""
        if data:  # for h11 empty data means the end of the connection
            self._reader.receive_data(data)
        while (event := self._reader.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                scope = {
                    "headers": list(event.headers),
                    "path": event.target.decode("latin-1"),
                    "server": ("127.0.0.1", self._port),
                }
                if reason := refusal_reason(scope):
                    return reason
            elif isinstance(event, h11.EndOfMessage):
                next_request, _ = self._reader.trailing_data
                self._reader = h11.Connection(h11.SERVER)
                return self._refusal(next_request)
        return ""

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", _PORT)
        except OSError:
            _reset(self.transport)
            return
        if self.transport.is_closing():  # the caller left meanwhile
            self.connection_lost(None)
        else:
            self.transport.resume_reading()


def _reset(transport: asyncio.Transport) -> None:
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
