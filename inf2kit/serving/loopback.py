"""Refuse web pages at servers on loopback: a page can make the browser call any port of its own machine.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from inf2kit.serving.asgi import Receive, Scope, Send, answer

_App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOSTS = (b"127.0.0.1", b"localhost", b"[::1]")
_OTHER_SITES = (b"cross-site", b"same-site")
_CORS = b"access-control-"


class Loopback:
    """An ASGI application that passes on only the requests of programs on this machine.

    The Host of a request must be this machine's, with the server's port: any other name may belong to an
    attacker who points it at 127.0.0.1. Browsers add Origin or Sec-Fetch-Site to the requests of a page, and
    programs add neither. Headers that would let a page read a response are removed.

    Args:
        app: The application that answers the requests.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with 403 if it is refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reason = refusal_reason(scope)
        if reason:
            await _refuse(send, reason)
            return

        async def send_without_cors(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message.get("headers", ()) if not _is_cors(header[0])]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_without_cors)


def refusal_reason(scope: Scope) -> str:
    """Why a request is refused, or an empty string.

    Args:
        scope: ASGI scope with the request's headers and path and the server's address.
    """
    headers = [(name.lower(), value.strip().lower()) for name, value in scope["headers"]]
    port = int(scope["server"][1])
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or hosts[0] not in _own_hosts(port):
        names = ", ".join(host.decode("latin-1") for host in hosts) or "nothing"
        return f"the Host must be 127.0.0.1:{port} or localhost:{port}, not {names}"
    if not str(scope["path"]).startswith("/"):
        return "the request's target must be a path"
    if any(name == b"origin" for name, _ in headers):
        return "it answers programs, and no web page: leave the Origin header out"
    if any(name == b"sec-fetch-site" and value in _OTHER_SITES for name, value in headers):
        return "it answers programs, and no web page of another site"
    return ""


def _own_hosts(port: int) -> list[bytes]:
    # Clients may omit port 80, which is HTTP's default.
    suffixes = (b"", b":80") if port == 80 else (b":%d" % port,)
    return [host + suffix for host in _HOSTS for suffix in suffixes]


def _is_cors(name: bytes) -> bool:
    return name.lower().startswith(_CORS)


async def _refuse(send: Send, reason: str) -> None:
    body = {
        "__type": "AccessDeniedException",
        "message": f"This server is for programs on its own machine: {reason}.",
    }
    headers = {"content-type": "application/json", "x-amzn-errortype": "AccessDeniedException"}
    await answer(send, 403, json.dumps(body).encode(), headers)
