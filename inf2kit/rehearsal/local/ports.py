"""Choose free ports of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from inf2kit.errors import LocalEndpointError

#: The model server accepts ports below 32767 only. Systems use the ports above for outgoing connections.
_RANGE = range(20_000, 32_000)


def choose_ports(count: int, reserved: Collection[int] = ()) -> list[int]:
    """Choose ports that are free now.

    Args:
        count: How many ports to choose.
        reserved: Ports to leave out although they may be free.

    Raises:
        LocalEndpointError: there are not so many.
    """
    ports: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in reserved and is_free(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise LocalEndpointError(
        f"there are no {count} free ports from {_RANGE.start} to {_RANGE.stop - 1}; stop what listens there"
    )


def is_free(port: int) -> bool:
    """Whether no server listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
