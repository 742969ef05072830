"""The process that keeps a faithful container. It shares the container's network and nothing else.

``namespaces.start_container`` runs it as ``python -m inf2kit.rehearsal.container.keeper LISTENER PLAN``. It
enables the loopback, starts the container, copies its output to the log, and relays each connection of the
listener to port 8080.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys

from inf2kit.rehearsal.container.namespaces import NEW_CONTAINER, Plan
from inf2kit.rehearsal.container.relay import CallerConnection

#: From linux/sockios.h and linux/if.h.
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


class _Log(asyncio.Protocol):
    """Copies the container's output to the log."""

    def data_received(self, data: bytes) -> None:
        """Write all of the data."""
        with contextlib.suppress(OSError):  # a full disk must not end the container
            while data:
                data = data[os.write(1, data) :]


async def keep_container(listener: socket.socket, plan: str) -> int:
    """Run a container to its end, and return the exit status of its process 1."""
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    await loop.connect_read_pipe(_Log, os.fdopen(read_end, "rb", buffering=0))
    command = [*NEW_CONTAINER, sys.executable, "-m", "inf2kit.rehearsal.container.rootfs", plan]
    container = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end
    )
    os.close(write_end)
    server = await loop.create_server(CallerConnection, sock=listener, backlog=512)
    async with server:
        return await container.wait()


def _enable_loopback() -> None:
    with socket.socket() as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def main(listener: str, plan: str) -> None:
    """Keep the container of a plan.

    Args:
        listener: The descriptor of the inherited listening socket.
        plan: A ``namespaces.Plan`` as JSON.
    """
    Plan.from_json(plan)  # fail here if it is wrong, not inside the container
    _enable_loopback()
    sys.exit(asyncio.run(keep_container(socket.socket(fileno=int(listener)), plan)))


if __name__ == "__main__":
    main(*sys.argv[1:])
