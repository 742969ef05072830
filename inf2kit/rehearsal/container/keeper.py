"""The process that keeps a faithful container, in the container's network and outside of the rest of it.

``namespaces.start`` runs it as ``python -m inf2kit.rehearsal.container.keeper LISTENER PLAN``. It brings
the loopback up, starts the container, copies its output to the log, and leads each connection of the
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
from inf2kit.rehearsal.container.relay import Caller

#: Of linux/sockios.h and linux/if.h.
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


class _Log(asyncio.Protocol):
    """The container's output, as CloudWatch would hold it."""

    def data_received(self, data: bytes) -> None:
        """Write all of it."""
        with contextlib.suppress(OSError):  # a full disk must not end the container
            while data:
                data = data[os.write(1, data) :]


async def keep(listener: socket.socket, plan: str) -> int:
    """Keep a container until it ends; the status of its first process."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    await loop.connect_read_pipe(_Log, os.fdopen(reading, "rb", buffering=0))
    command = [*NEW_CONTAINER, sys.executable, "-m", "inf2kit.rehearsal.container.rootfs", plan]
    container = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing
    )
    os.close(writing)
    server = await loop.create_server(Caller, sock=listener, backlog=512)
    async with server:
        return await container.wait()


def _bring_up_loopback() -> None:
    with socket.socket() as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def main(listener: str, plan: str) -> None:
    """Keep the container of a plan, which is one of ``namespaces.Plan`` as JSON."""
    Plan.from_json(plan)  # a wrong one is an error here, and not one in the container's log
    _bring_up_loopback()
    sys.exit(asyncio.run(keep(socket.socket(fileno=int(listener)), plan)))


if __name__ == "__main__":
    main(*sys.argv[1:])
