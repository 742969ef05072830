"""The process that keeps one local endpoint: starts its container, asks /ping, runs its front.

Run as ``python -m inf2kit.rehearsal.local.host NAME``; ``endpoint.up`` does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from inf2kit import paths
from inf2kit.rehearsal.local import state
from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.local.instance import Instance
from inf2kit.rehearsal.runtime.server import SageMakerRuntime, Target

ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "endpoint.log"


class Host:
    """Keeps one endpoint until told to end."""

    def __init__(self, endpoint: state.EndpointState) -> None:
        self._state = endpoint
        folder = paths.endpoint(endpoint.name)
        self._instance = Instance(
            base_dir=folder,
            run_dir=Path(endpoint.run_dir),
            variables=json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")),
            port=endpoint.gateway_port,
            log=folder / LOG_FILE,
            changed=self._remember,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end the container."""
        self._instance.start()
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        server = LoopbackServer(SageMakerRuntime(self._target), self._state.runtime_port)
        serving = asyncio.create_task(server.serve())
        ended = asyncio.create_task(ending.wait())
        await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = server.force_exit = True
        await asyncio.to_thread(self._instance.stop)
        await serving

    def _target(self, name: str, _variant: str) -> Target | None:
        return self._instance.target if name == self._state.name else None

    def _remember(self, instance: Instance) -> None:
        """As SageMaker does: once in service an endpoint stays that, whatever /ping says later."""
        status = {"ready": "InService", "failed": "Failed"}.get(instance.state)
        if status:
            state.write_status(self._state.name, status, instance.reason)


def main(name: str) -> None:
    """Keep the endpoint of that name, whose state ``endpoint.up`` has written."""
    endpoint = state.read(name)
    assert endpoint is not None, name  # noqa: S101
    asyncio.run(Host(endpoint).run())


if __name__ == "__main__":
    main(sys.argv[1])
