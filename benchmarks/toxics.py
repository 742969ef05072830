"""A bad network between runtime and gateway: connections are slow, are reset or fall silent."""

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
from inf2kit.rehearsal.runtime.containers import Target
from inf2kit.rehearsal.runtime.server import SageMakerRuntime

#: The share of connections with each toxic. A half-open connection stays open but passes nothing on.
_TOXICS = {"none": 0.85, "latency": 0.1, "reset": 0.03, "half-open": 0.02}
_LONGEST_DELAY_S = 0.3
#: Most bytes that pass before a connection is reset or falls silent.
_MOST_BYTES = 20_000


class Toxics:
    """A TCP proxy before one port of this machine.

    Args:
        port: The port that connections are passed on to.
        seed: Seed of the random toxics.

    Attributes:
        port: The proxy's own port.
        counts: Number of connections with each toxic.
        tasks: The tasks of open connections.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self._target = port
        self._random = random.Random(seed)
        (self.port,) = ports.choose_ports(1, [port])
        self.counts: Counter[str] = Counter()
        # The loop holds tasks weakly: without this set, a half-open connection's task could be collected.
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Listen until cancelled."""
        async with await asyncio.start_server(self._begin, "127.0.0.1", self.port) as server:
            await server.serve_forever()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve_connection(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (toxic,) = self._random.choices(list(_TOXICS), list(_TOXICS.values()))
        self.counts[toxic] += 1
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        bytes_left = [self._random.randrange(_MOST_BYTES)]
        try:
            await asyncio.gather(
                self._pass_on(reader, target_writer, toxic, bytes_left),
                self._pass_on(target_reader, writer, toxic, bytes_left),
            )
        except OSError:
            for stream in (writer, target_writer):
                # With a linger time of 0 the kernel resets the connection instead of closing it.
                stream.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        finally:
            for stream in (writer, target_writer):
                stream.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxic: str, bytes_left: list[int]
    ) -> None:
        # The gateway accepts a Host header with its own port only; both ports have five digits.
        proxy_host, target_host = b":%d\r\n" % self.port, b":%d\r\n" % self._target
        while part := await reader.read(65536):
            if toxic == "latency":
                await asyncio.sleep(self._random.uniform(0, _LONGEST_DELAY_S))
            if toxic in ("reset", "half-open"):
                bytes_left[0] -= len(part)
                if bytes_left[0] < 0 and toxic == "reset":
                    raise ConnectionResetError
                if bytes_left[0] < 0:
                    continue
            writer.write(part.replace(proxy_host, target_host))
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextmanager
def toxic_front(gateway_url: str, name: str, seed: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """Run a runtime with a bad network to the gateway; yield its URL and the counts of toxics."""
    toxics = Toxics(int(urlsplit(gateway_url).port or 0), seed)
    target = Target(f"http://127.0.0.1:{toxics.port}", "InService")
    (port,) = ports.choose_ports(1, [toxics.port])
    server = LoopbackServer(SageMakerRuntime(lambda endpoint, _: target if endpoint == name else None), port)

    async def run() -> None:
        proxy = asyncio.create_task(toxics.serve())
        await server.serve()
        for task in (proxy, *toxics.tasks):
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="toxic runtime")
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}", toxics.counts
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
