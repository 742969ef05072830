"""ASGI helpers of the gateway and of the rehearsal's servers.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Seconds until an idle connection is closed. A caller whose connection closes just as it sends cannot know
#: whether its call has begun, so the server should close last; uvicorn's default of 5 s is too short.
KEEP_ALIVE_S = 75


def request_headers(scope: Scope) -> dict[str, str]:
    """A request's headers, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def head(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """The message that begins a response."""
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole response."""
    await send(head(status, {**headers, "content-length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})


class DisconnectedError(Exception):
    """The caller closed the connection before the end of its body."""


async def body_parts(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a request's body, as they arrive.

    Raises:
        DisconnectedError: the connection closes before the end of the body.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def disconnected(receive: Receive) -> None:
    """Wait until the caller closes the connection. Call it after the whole body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
