"""The engine's socket protocol: one JSON object a line, both ways, one connection per call.

    call    {"op": "generate", "body": {...}, "arrival": 12.5, "stream": true}
    events  {"event": "accepted", "form": "tgi", "details": false, "warnings": [...], ...}
            {"event": "token", "prompt": 0, "index": 1, "token": {...}}     while streaming
            {"event": "end", "prompt": 0, "index": 9, "token": {...}, "generation": {...}}
            {"event": "error", "status": 422, "code": "...", "message": "...", "retry_after_s": null}
            {"event": "done"}

    call    {"op": "metrics"}
    events  {"event": "metrics", "text": "..."}                             in Prometheus' format
            {"event": "done"}

    call    {"op": "status"}
    events  {"event": "status", "state": "loading" | "ready", "longest_token": 12}    at every change

    call    {"op": "end"}                              every text ends with what it has
    events  {"event": "done"}

Closing the connection gives the call up: its rows are free at the next step. Times are seconds of the
monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.wire import Generation, ResponseWriter, Token

Event = dict[str, Any]

#: The gateway's note to a worker of when a call arrived, in seconds of the monotonic clock.
ARRIVAL_HEADER = "x-inf2kit-arrival"
#: Seconds beyond a call's deadline within which the engine answers in any case. What asks it waits no longer,
#: and the gateway a little more than a worker: SageMaker ends a call after 60 s.
WORKER_GRACE_S, GATEWAY_GRACE_S = 2.0, 3.0
#: Longest line: a whole 6 MB request, whose text JSON may write with six characters for one.
MAX_LINE = 64 * 1024 * 1024
_NOT_THERE = "the engine is not running; it is being started: try again in a moment"
_WENT_AWAY = "the engine stopped in the middle of this call; it is being restarted: try again in a moment"


def encode(event: Event) -> bytes:
    """An event as a line."""
    return json.dumps(event).encode("ascii") + b"\n"


def error_event(error: RequestError) -> Event:
    """An error as an event."""
    return {
        "event": "error",
        "status": error.status,
        "code": error.code,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
    }


def raised(event: Event) -> RequestError:
    """The error that an event carries."""
    return RequestError(
        event["status"], event["code"], event["message"], retry_after_s=event["retry_after_s"]
    )


def writer(accepted: Event) -> ResponseWriter:
    """The writer of a call's answer, from its first event."""
    return ResponseWriter(
        form=accepted["form"],
        details=accepted["details"],
        include_usage=accepted["include_usage"],
        model=accepted["model"],
        warnings=tuple(accepted["warnings"]),
    )


def generation(end: Event) -> Generation:
    """One prompt's generation, from its last event."""
    fields = dict(end["generation"])
    fields["tokens"] = tuple(Token(**token) for token in fields["tokens"])
    return Generation(**fields)


class WholeAnswer:
    """Gathers the events of a call whose answer is written whole."""

    def __init__(self) -> None:
        self._writer: ResponseWriter | None = None
        self._generations: dict[int, Generation] = {}

    def take(self, event: Event) -> None:
        """The next event.

        Raises:
            RequestError: it is an error.
        """
        if event["event"] == "error":
            raise raised(event)
        if event["event"] == "accepted":
            self._writer = writer(event)
        elif event["event"] == "end":
            self._generations[event["prompt"]] = generation(event)

    def body(self) -> object:
        """The answer's JSON value, once the last event was taken.

        Raises:
            RequestError: 503, the engine has not even accepted the call.
        """
        if self._writer is None:
            raise unavailable(_WENT_AWAY)
        return self._writer.body([self._generations[prompt] for prompt in sorted(self._generations)])


def call(path: Path, request: Event, *, until: float) -> Iterator[Event]:
    """The events of one call, for a worker that blocks.

    Args:
        path: The engine's socket.
        request: The call.
        until: Monotonic time after which nothing is waited for.

    Raises:
        RequestError: 503 when the engine is not there, goes away, or does not end the call in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            _limit(connection, until)
            connection.connect(str(path))
            connection.sendall(encode(request))
        except TimeoutError:
            raise not_in_time() from None
        except OSError:
            raise unavailable(_NOT_THERE) from None
        with connection.makefile("rb") as lines:
            try:
                for line in lines:
                    yield json.loads(line)
                    if b'"event": "done"' in line:
                        return
                    _limit(connection, until)
            except TimeoutError:
                raise not_in_time() from None
            except (OSError, json.JSONDecodeError):
                pass
    raise unavailable(_WENT_AWAY)


def not_in_time() -> RequestError:
    """The 503 for a call that the engine did not end by its deadline."""
    return unavailable("the engine did not end this call by its deadline; try again in a moment")


def _limit(connection: socket.socket, until: float) -> None:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


async def stream(path: Path, request: Event) -> AsyncGenerator[Event, None]:
    """The same for the gateway, which does not block; leaving the loop early gives the call up.

    Raises:
        RequestError: 503 when the engine is not there or goes away.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE)
    except OSError:
        raise unavailable(_NOT_THERE) from None
    try:
        writer.write(encode(request))
        await writer.drain()
        while line := await reader.readline():
            event = json.loads(line)
            yield event
            if event["event"] == "done":
                return
    except (OSError, json.JSONDecodeError):
        pass
    finally:
        writer.close()
    raise unavailable(_WENT_AWAY)
