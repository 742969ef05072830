"""The process that keeps a faithful container, in the container's network and outside of the rest of it.

Run as ``python -m inf2kit.local.keeper LISTENER PLAN``; ``namespaces.start`` does. It brings the loopback up,
starts the container, copies its output to the log, and leads each connection of the listener to port 8080.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys

from inf2kit.local.namespaces import NEW_CONTAINER, Plan

_PORT = 8080
#: Of linux/sockios.h and linux/if.h.
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
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


class _Caller(_Side):
    """A connection from outside; the one to the container is made when it comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the container's port."""
        super().connection_made(transport)
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

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


class _Log(asyncio.Protocol):
    """The container's output, as CloudWatch would hold it."""

    def data_received(self, data: bytes) -> None:
        """Write all of it."""
        with contextlib.suppress(OSError):  # a full disk must not end the container
            while data:
                data = data[os.write(1, data) :]


async def keep(listener: socket.socket, plan: str) -> int:
    """Keep a container until it ends; the status of its first process."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    await loop.connect_read_pipe(_Log, os.fdopen(reading, "rb", buffering=0))
    command = [*NEW_CONTAINER, sys.executable, "-m", "inf2kit.local.rootfs", plan]
    container = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing
    )
    os.close(writing)
    server = await loop.create_server(_Caller, sock=listener, backlog=512)
    async with server:
        return await container.wait()


def _reset(transport: asyncio.Transport) -> None:
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def _bring_up_loopback() -> None:
    with socket.socket() as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def main(listener: str, plan: str) -> None:
    """Keep the container of a plan, which is one of ``namespaces.Plan`` as JSON."""
    Plan.from_json(plan)  # a wrong one is an error here, and not one in the container's log
    _bring_up_loopback()
    sys.exit(asyncio.run(keep(socket.socket(fileno=int(listener)), plan)))


if __name__ == "__main__":
    main(*sys.argv[1:])
