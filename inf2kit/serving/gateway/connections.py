"""The gateway's connections: limited in number, and closed if the caller sends or reads nothing for long."""

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

#: Seconds in which a request's head must arrive, from its first byte or from the opening of the connection.
_HEAD_S = 10.0
#: Seconds in which a caller must read at least a part of what is left of an answer.
_UNREAD_S = 10.0
#: Most bytes of a request's head.
_MAX_HEAD = 64 * 1024
#: Open files that are not connections of callers, such as the sockets to the engine and the model server.
_OTHER_FILES = 256
#: Least and most connections, whatever the limit on open files is.
_MIN_CONNECTIONS, _MAX_CONNECTIONS = 64, 8192
#: Connections that asyncio accepts in one go, before it reads from the first, and those that wait in the
#: kernel. If open files run out in the middle, asyncio accepts none for a second.
_ACCEPTED_AT_ONCE, _KERNEL_BACKLOG = 64, 4096


class Connections(uvicorn.Server):
    """uvicorn on one address, for an application that decides itself when the server ends.

    asyncio opens the socket: only on its own sockets does it set TCP_NODELAY, without which every answer on a
    kept-alive connection waits 40 ms for an acknowledgement.

    Args:
        app: An ASGI application.
        host: Address to listen on.
        port: Port to listen on.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        max_connections = _max_connections()

        class LimitedProtocol(_Protocol):
            limit = max_connections

        # Each part is named: "auto" would choose parts that the image has by chance and no test covers.
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=LimitedProtocol,
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
                with socket.socket(fileno=os.dup(listening.fileno())) as duplicate:
                    duplicate.listen(_KERNEL_BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signal: the gateway drains before it ends."""
        yield

    def abort(self, scope: Scope) -> None:
        """Close the connection of a request at once, and drop the part of its answer that is not sent."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and connection.scope is scope:
                # The transport reports it a moment later; until then the answer would count as broken off.
                connection.cycle.disconnected = True
                connection.transport.abort()


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes idle connections when there are too many, and slow ones."""

    limit = _MAX_CONNECTIONS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._waiting_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            self._close_longest_waiting()
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._waiting_since = self.loop.time()
        # The rest of an answered request's body, which is read and dropped, begins no request.
        if self._is_idle() and (self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY):
            self._start_head_timer()
        else:
            self._stop_head_timer()

    def on_response_complete(self) -> None:
        self._waiting_since = self.loop.time()
        if (unread := self.transport.get_write_buffer_size()) and self._unread_timer is None:
            self._start_unread_timer(unread)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _is_waiting(self) -> bool:
        """Whether the caller has to send: a request, or the rest of one."""
        return self._is_idle() or self.cycle.more_body

    def _close_longest_waiting(self) -> None:
        # Closed connections are in the list until the loop has handled their end.
        connections = [
            connection
            for connection in self.connections
            if isinstance(connection, _Protocol) and not connection.transport.is_closing()
        ]
        if len(connections) > self.limit:
            waiting = (connection for connection in connections if connection._is_waiting())
            min(waiting, key=lambda connection: connection._waiting_since).transport.abort()

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_S, self._on_late_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_late_head(self) -> None:
        self._head_timer = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.abort()

    # For the application an answer is sent when it is in the transport's buffer. A transport closes only when
    # its buffer is empty, so without these timers it would wait for ever for a caller that does not read.

    def _start_unread_timer(self, unread: int) -> None:
        self._unread_timer = self.loop.call_later(_UNREAD_S, self._check_unread, unread)

    def _check_unread(self, before: int) -> None:
        self._unread_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread >= before:
            self.transport.abort()
        elif unread:
            self._start_unread_timer(unread)


def _max_connections() -> int:
    """Connections that the limit on open files allows, after it is raised as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(_MIN_CONNECTIONS, min(_MAX_CONNECTIONS, soft - _OTHER_FILES))
