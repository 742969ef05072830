"""uvicorn as the servers of the rehearsal use it: on loopback, with signals left to the owner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

from inf2kit.serving.asgi import KEEP_ALIVE_S
from inf2kit.serving.loopback import Loopback


class LoopbackServer(uvicorn.Server):
    """A server that refuses web pages and handles no signal: its owner must stop its containers first.

    Args:
        app: An ASGI application.
        port: The port on 127.0.0.1.
    """

    def __init__(self, app: Any, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                Loopback(app),
                host="127.0.0.1",
                port=port,
                backlog=512,
                timeout_keep_alive=KEEP_ALIVE_S,
                lifespan="off",
                # Fixed, because uvicorn would prefer other implementations where they are installed.
                loop="asyncio",
                http="h11",
                ws="none",
                access_log=False,
                log_level="warning",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave all signals to the owner."""
        yield
