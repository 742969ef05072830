"""The gateway's connections: bounded in number, and none of them may be silent, or unread, for long."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from inf2kit.serving.asgi import KEEP_ALIVE_S, Scope

#: Seconds in which a request's head must come, from the first byte or from the connection's begin.
_HEAD_S = 10.0
#: Seconds in which a caller must read something of what is left of an answer.
_UNREAD_S = 10.0
#: Bytes of a request's head.
_MAX_HEAD = 64 * 1024
#: Open files that are not connections: sockets to engine and model server for the calls inside, and the rest.
_OTHER_FILES = 256
_FEWEST, _MOST = 64, 8192
#: Connections that asyncio accepts in one go, before it looks at the first, and those that wait in the
#: kernel. Where files run out in the middle, it accepts none for a second.
_ACCEPTED_AT_ONCE, _WAITING = 64, 4096


class Connections(uvicorn.Server):
    """uvicorn on one address, for an application that decides itself when it ends.

    It binds by itself: asyncio sets TCP_NODELAY on its own sockets only, and without it every answer on a
    kept-alive connection waits 40 ms for an acknowledgement.

    Args:
        app: An ASGI application.
        host: To listen on.
        port: To listen on.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        self.most = _connections_allowed()
        most = self.most

        class Bounded(_Protocol):
            limit = most

        # Each part is named: with "auto" the parts that the image happens to have would run untested.
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=Bounded,
                loop="asyncio",
                ws="none",
                backlog=_ACCEPTED_AT_ONCE,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=_MAX_HEAD,
                lifespan="off",
                access_log=False,
                log_level="warning",
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                with socket.socket(fileno=os.dup(listening.fileno())) as same:
                    same.listen(_WAITING)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: the gateway drains before it ends."""
        yield

    def abort(self, scope: Scope) -> None:
        """Close the connection of a request at once, and drop what its caller has not read."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and connection.scope is scope:
                # The transport says so a moment later; until then the answer would count as broken off.
                connection.cycle.disconnected = True
                connection.transport.abort()


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes connections which say nothing."""

    limit = _MOST

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._waits_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            self._close_a_waiting_one()
        self._expect_a_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._waits_since = self.loop.time()
        # What is left of an answered request's body, and is read away, is no request's begin.
        if self._is_idle() and (self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY):
            self._expect_a_head()
        else:
            self._forget_the_head()

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        if (unread := self.transport.get_write_buffer_size()) and self._unread_timer is None:
            self._expect_reading(unread)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_the_head()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _waits(self) -> bool:
        """Whether it is the caller's turn: to send a request, or the rest of one."""
        return self._is_idle() or self.cycle.more_body

    def _close_a_waiting_one(self) -> None:
        # One that is closed already counts until the loop comes round to it.
        there = [each for each in self.connections if isinstance(each, _Protocol)]
        there = [each for each in there if not each.transport.is_closing()]
        if len(there) > self.limit:
            waiting = (each for each in there if each._waits())
            min(waiting, key=lambda each: each._waits_since).transport.abort()

    def _expect_a_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_S, self._head_is_late)

    def _forget_the_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.abort()

    # An answer is over for the application when it lies in the transport's buffer. A transport that is told
    # to close waits until the buffer is empty, and would wait for ever.

    def _expect_reading(self, unread: int) -> None:
        self._unread_timer = self.loop.call_later(_UNREAD_S, self._look_whether_it_reads, unread)

    def _look_whether_it_reads(self, before: int) -> None:
        self._unread_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread >= before:
            self.transport.abort()
        elif unread:
            self._expect_reading(unread)


def _connections_allowed() -> int:
    """How many connections fit into this process's open files, of which it takes as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(_FEWEST, min(_MOST, soft - _OTHER_FILES))
