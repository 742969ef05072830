"""uvicorn for the processes of the rehearsal: on loopback, and without a say in signals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

from inf2kit.serving.asgi import KEEP_ALIVE_S
from inf2kit.serving.loopback import Loopback


class Server(uvicorn.Server):
    """Leaves signals to its owner, who has containers to end before it ends itself; answers no web page.

    Args:
        app: An ASGI application.
        port: Of this machine.
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
                # What is tested, whatever else is installed.
                loop="asyncio",
                http="h11",
                ws="none",
                access_log=False,
                log_level="warning",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield
