"""Ports that nobody listens on."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

#: The model server takes ports below 32767 only; below that there are no ephemeral ports either.
_RANGE = range(20_000, 32_000)


def choose(count: int, taken: Collection[int] = ()) -> list[int]:
    """Some ports that are free now.

    Args:
        count: How many.
        taken: Ports that are somebody's already, though nobody may listen there yet.
    """
    ports: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in taken and is_free(port):
            ports.append(port)
        if len(ports) == count:
            break
    return ports


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
