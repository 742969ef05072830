"""Wait for servers and other slow things: free ports, pings, conditions."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: One limit for every wait, command and answer: far above what a slow machine needs, below pytest's own limit
#: for a test. What has a limit of its own, such as SageMaker's 60 s for a call, says so.
PATIENCE_S = 240
#: For one answer to /ping, which is asked again.
PING_S = 30


def free_port() -> int:
    """Return a port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ping(port: int) -> int | None:
    """Return the status of GET /ping on a port, or None where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PING_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Wait until a condition is true, and return its value.

    Raises:
        AssertionError: The condition was not true in ``PATIENCE_S``; the message says ``what`` was awaited.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (began := time.monotonic()) < deadline:
        if value := condition():
            return value
        # At least half of the time is left to what is awaited: it may run on the same core.
        time.sleep(max(0.02, time.monotonic() - began))
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")
