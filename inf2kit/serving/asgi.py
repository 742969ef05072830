"""The little of ASGI that the gateway and the local front share.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Seconds an idle connection is kept. A caller that finds its connection closed just as it sends cannot know
#: whether the call was begun, so servers should be the last to close; uvicorn's own 5 s are short.
KEEP_ALIVE_S = 75


def request_headers(scope: Scope) -> dict[str, str]:
    """A request's headers, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def head(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """The message that starts an answer."""
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """A whole answer."""
    await send(head(status, {**headers, "content-length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})


class DisconnectedError(Exception):
    """The caller closed the connection before the end of what it was sending."""


async def body_parts(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body as it comes.

    Raises:
        DisconnectedError: it does not come whole.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def disconnected(receive: Receive) -> None:
    """Return when the caller has closed the connection; call it when the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
