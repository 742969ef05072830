"""The process that keeps one local endpoint: starts its container, asks /ping, runs its front.

Run as ``python -m inf2kit.local.host NAME``; ``endpoint.up`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn

from inf2kit import home
from inf2kit.asgi import KEEP_ALIVE_S
from inf2kit.local import container, state
from inf2kit.local.front import Front, Target

_PING_INTERVAL_S = 0.1
#: SageMaker gives /ping two seconds.
_PING_LIMIT_S = 2.0
ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "endpoint.log"


class _Server(uvicorn.Server):
    """Leaves signals to the host, which has a container to end before it ends itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


class Host:
    """Keeps one endpoint until told to end."""

    def __init__(self, endpoint: state.EndpointState) -> None:
        self._state = endpoint

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end the container."""
        folder = home.endpoint(self._state.name)
        variables = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        launched = container.start(
            folder,
            Path(self._state.run_dir),
            variables,
            gate_port=self._state.gate_port,
            model_server_port=self._state.model_server_port,
            management_port=self._state.management_port,
            log=folder / LOG_FILE,
        )
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        watching = asyncio.create_task(self._watch(launched.poll))
        config = uvicorn.Config(
            Front(self._target),
            host="127.0.0.1",
            port=self._state.front_port,
            backlog=512,
            timeout_keep_alive=KEEP_ALIVE_S,
            lifespan="off",
            access_log=False,
            log_level="warning",
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        ended = asyncio.create_task(ending.wait())
        await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        server.should_exit = server.force_exit = True
        await asyncio.to_thread(container.stop, Path(self._state.run_dir))
        await serving

    def _target(self, name: str) -> Target | None:
        return Target(self._state.gate_url, self._state.status) if name == self._state.name else None

    async def _watch(self, container_status: object) -> None:
        """Follow /ping, as SageMaker does: it alone says whether the endpoint is in service."""
        assert callable(container_status)  # noqa: S101
        async with httpx.AsyncClient(timeout=_PING_LIMIT_S, trust_env=False) as client:
            while True:
                if (code := container_status()) is not None:
                    self._set("Failed", f"the model server ended with status {code}; see the log")
                    return
                if await self._ping(client):
                    self._set("InService")
                elif self._state.status == "Creating" and (reason := self._failure()):
                    self._set("Failed", reason)
                await asyncio.sleep(_PING_INTERVAL_S)

    async def _ping(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self._state.gate_url}/ping")).status_code == 200
        except httpx.HTTPError:
            return False

    def _failure(self) -> str | None:
        """The supervisor's own word, which on AWS only the log has; here nobody waits for the time-out."""
        try:
            path = Path(self._state.run_dir) / "supervisor.json"
            supervisor = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return str(supervisor["reason"]) if supervisor["state"] == "failed" else None

    def _set(self, status: str, reason: str = "") -> None:
        if (status, reason) != (self._state.status, self._state.reason):
            self._state = dataclasses.replace(self._state, status=status, reason=reason)
            state.write_status(self._state.name, status, reason)


def main(name: str) -> None:
    """Keep the endpoint of that name, whose state ``endpoint.up`` has written."""
    endpoint = state.read(name)
    assert endpoint is not None, name  # noqa: S101
    asyncio.run(Host(endpoint).run())


if __name__ == "__main__":
    main(sys.argv[1])
