"""An engine's Unix socket: one connection for each call, one JSON object a line, both ways.

    {"op": "generate", "body": {...}, "arrival": 12.5}    the answer's events
    {"op": "status"}                                      the engine's state at every change, without an end
    {"op": "metrics"}                                     the engine's metrics
    {"op": "end"}                                         end every text with the tokens it has

``events`` describes what comes back. Closing the connection cancels the call: its rows are free at the next
step. Times are seconds of the monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.engine.events import DoneEvent, ErrorEvent, Event, decode_event, engine_went_away

#: Header in which the gateway tells a worker when the call arrived, in seconds of the monotonic clock.
ARRIVAL_HEADER = "x-inf2kit-arrival"
#: Header in which the gateway tells a worker which engine has the call: its number.
ENGINE_HEADER = "x-inf2kit-engine"
#: Seconds after a call's deadline at which its caller gives the engine up: a worker first, then the gateway.
#: SageMaker ends a call after 60 s.
WORKER_GRACE_S, GATEWAY_GRACE_S = 2.0, 3.0
#: Bytes of the longest line. A request of 25 MB is a line of hardly more, as it is written in UTF-8.
MAX_LINE = 64 * 1024 * 1024


@dataclass(frozen=True)
class EngineCall:
    """A call to the engine.

    Attributes:
        op: What to do.
        body: JSON value of the request's body, for ``generate``.
        arrival: Monotonic time at which the call arrived at the endpoint, for ``generate``; its deadline is
            counted from there. None stands for now.
    """

    op: Literal["generate", "status", "metrics", "end"]
    body: object = None
    arrival: float | None = None


def encode_call(call: EngineCall) -> bytes:
    """A call as a line."""
    # Not in ASCII: a letter of two bytes would be six. Names that nothing reads may have lone surrogates.
    return json.dumps(vars(call), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def decode_call(line: bytes) -> EngineCall:
    """A line as a call.

    Raises:
        ValueError: the line is not a whole call.
    """
    return EngineCall(**json.loads(line))


def call_engine(path: Path, call: EngineCall, *, until: float) -> Iterator[Event]:
    """Make one call and block for each of its events.

    Args:
        path: The engine's socket.
        call: The call.
        until: Monotonic time at which the call is given up.

    Raises:
        RequestError: the engine's own error; 503 if it is not there, goes away, or does not end the call in
            time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            _set_timeout(connection, until)
            connection.connect(str(path))
            connection.sendall(encode_call(call))
        except TimeoutError:
            raise not_in_time() from None
        except OSError:
            raise _not_running() from None
        with connection.makefile("rb") as lines:
            try:
                for line in lines:
                    event = _receive(line)
                    if event is None:
                        return
                    yield event
                    _set_timeout(connection, until)
            except TimeoutError:
                raise not_in_time() from None
            except (OSError, json.JSONDecodeError):
                pass
    raise engine_went_away()


async def stream_engine(path: Path, call: EngineCall) -> AsyncGenerator[Event, None]:
    """Make one call without blocking, and without a limit in time. Closing the generator cancels the call.

    Raises:
        RequestError: the engine's own error; 503 if it is not there or goes away.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE)
    except OSError:
        raise _not_running() from None
    try:
        writer.write(encode_call(call))
        await writer.drain()
        while line := await reader.readline():
            event = _receive(line)
            if event is None:
                return
            yield event
    except (OSError, json.JSONDecodeError):
        pass
    finally:
        writer.close()
    raise engine_went_away()


def not_in_time() -> RequestError:
    """The 503 for a call that the engine did not end by its deadline."""
    return unavailable("the engine did not end this call by its deadline; try again in a moment")


def _not_running() -> RequestError:
    return unavailable("the engine is not running; it is being started: try again in a moment")


def _receive(line: bytes) -> Event | None:
    """The event of a line, or None at the end of the call.

    Raises:
        RequestError: the event is an error.
    """
    event = decode_event(line)
    if isinstance(event, ErrorEvent):
        raise event.error()
    return None if isinstance(event, DoneEvent) else event


def _set_timeout(connection: socket.socket, until: float) -> None:
    remaining_s = until - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    connection.settimeout(remaining_s)
