"""The host process of a local endpoint: it starts the container, polls /ping and serves the runtime API.

``LocalEndpoint.start_host`` runs it as ``python -m inf2kit.rehearsal.local.host NAME``.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.instance import Instance
from inf2kit.rehearsal.runtime.containers import Target
from inf2kit.rehearsal.runtime.server import SageMakerRuntime


class Host:
    """Runs one endpoint until it gets SIGTERM or SIGINT."""

    def __init__(self, endpoint: LocalEndpoint) -> None:
        self._endpoint = endpoint
        self._runtime_port = endpoint.describe().runtime_port
        self._instance = Instance(endpoint.container_spec(), on_change=self._write_status)

    async def run(self) -> None:
        """Serve until a signal, then end the container."""
        self._instance.start()
        signalled = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled.set)
        server = LoopbackServer(SageMakerRuntime(self._find_target), self._runtime_port)
        serving = asyncio.create_task(server.serve())
        ending = asyncio.create_task(signalled.wait())
        await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = server.force_exit = True
        await asyncio.to_thread(self._instance.stop)
        await serving

    def _find_target(self, name: str, _variant: str) -> Target | None:
        return self._instance.target if name == self._endpoint.name else None

    def _write_status(self, instance: Instance) -> None:
        """Write the status as SageMaker does: once in service it stays so, whatever /ping answers later."""
        status = {"ready": "InService", "failed": "Failed"}.get(instance.state)
        if status:
            self._endpoint.write_status(status, instance.reason)


def main(name: str) -> None:
    """Run the host of a created endpoint."""
    asyncio.run(Host(LocalEndpoint(name)).run())


if __name__ == "__main__":
    main(sys.argv[1])
