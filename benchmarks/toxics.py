"""A bad network between front and gateway: connections that are slow, are reset, or fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from inf2kit.rehearsal.local import ports
from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.runtime.server import SageMakerRuntime, Target

#: What happens to a connection, and how often. One that is half open passes nothing more on and stays open.
_TOXICS = {"none": 0.85, "latency": 0.1, "reset": 0.03, "half-open": 0.02}
_LONGEST_DELAY_S = 0.3
#: Bytes after which a connection is reset or falls silent, at most.
_MOST_BYTES = 20_000


class Toxics:
    """A TCP proxy before one port of this machine.

    Args:
        port: Where connections lead.
        seed: Of what happens to them.

    Attributes:
        port: Its own.
        counts: How many connections had each toxic.
        tasks: Of the connections that are there.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self._target = port
        self._random = random.Random(seed)
        (self.port,) = ports.choose_ports(1, [port])
        self.counts: Counter[str] = Counter()
        # A connection that is half open waits for nothing, and the loop alone does not keep its task alive.
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Listen until cancelled."""
        async with await asyncio.start_server(self._begin, "127.0.0.1", self.port) as server:
            await server.serve_forever()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connected(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (toxic,) = self._random.choices(list(_TOXICS), list(_TOXICS.values()))
        self.counts[toxic] += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        left = [self._random.randrange(_MOST_BYTES)]
        try:
            await asyncio.gather(
                self._pass_on(reader, back, toxic, left), self._pass_on(there, writer, toxic, left)
            )
        except OSError:
            for each in (writer, back):
                # With nothing to linger for, the kernel resets instead of closing.
                each.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        finally:
            for each in (writer, back):
                each.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxic: str, left: list[int]
    ) -> None:
        # The gateway answers to a Host with its own port only; both have five digits.
        own, other = b":%d\r\n" % self.port, b":%d\r\n" % self._target
        while part := await reader.read(65536):
            if toxic == "latency":
                await asyncio.sleep(self._random.uniform(0, _LONGEST_DELAY_S))
            if toxic in ("reset", "half-open"):
                left[0] -= len(part)
                if left[0] < 0 and toxic == "reset":
                    raise ConnectionResetError
                if left[0] < 0:
                    continue
            writer.write(part.replace(own, other))
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextmanager
def toxic_front(gateway_url: str, name: str, seed: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """A front of an endpoint whose connections to the gateway are bad ones: its URL, and what they had."""
    toxics = Toxics(int(urlsplit(gateway_url).port or 0), seed)
    target = Target(f"http://127.0.0.1:{toxics.port}", "InService")
    (port,) = ports.choose_ports(1, [toxics.port])
    server = LoopbackServer(SageMakerRuntime(lambda wanted, _: target if wanted == name else None), port)

    async def run() -> None:
        proxy = asyncio.create_task(toxics.serve())
        await server.serve()
        for task in (proxy, *toxics.tasks):
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="toxic front")
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}", toxics.counts
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
