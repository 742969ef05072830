"""The gateway: the process that owns the endpoint's port.

The model server says healthy before its model is loaded and cannot stream. So the port opens only after a
generation went all the way through model server, worker and engine; ``/ping`` tells the engine's state;
calls are admitted or refused on arrival; ``stream: true`` is served from the engine; everything else passes
through the model server, so that ``predict_fn`` stays in the path.

Run as ``python -m inf2kit.serving.engine.gateway MODEL_DIR``; the supervisor does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
import traceback

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.asgi import Receive, Scope, Send, answer
from inf2kit.serving.engine import protocol
from inf2kit.serving.engine.connections import Connections
from inf2kit.serving.engine.heartbeat import ENGINE, GATEWAY, Heartbeat
from inf2kit.serving.engine.invocations import Invocations
from inf2kit.serving.engine.metrics import CONTENT_TYPE, GatewayMetrics, log_line, samples
from inf2kit.serving.engine.model_server import ModelServer
from inf2kit.serving.engine.processes import (
    OPENED_FILE,
    STATE_FILE,
    be_killed_first,
    end_with_parent,
    say,
    write_line,
)
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.loopback import Loopback

_POLL_S = 0.05
#: Seconds between two lines of metrics, and between two lines of load.
_METRICS_EVERY_S, _LOAD_EVERY_S = 60.0, 10.0
#: Seconds that calls go on after SIGTERM, and that they have to end after that. SageMaker kills after 30 s.
_DRAIN_S, _DRAIN_END_S = 25.0, 2.0
#: Seconds between two beats, and without one after which the gateway counts as stuck.
_BEAT_S, _STALL_S = 0.5, 10.0


class Gateway:
    """An ASGI application for ``GET /ping``, ``POST /invocations`` and ``GET /metrics``.

    Args:
        settings: Of the endpoint.
        heartbeat: The engine's.

    Attributes:
        invocations: What answers the calls.
    """

    def __init__(self, settings: Settings, heartbeat: Heartbeat) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._engine_state = "loading"
        self._model_server = ModelServer(settings.model_server_address)
        self._metrics = GatewayMetrics()
        self.invocations = Invocations(settings, self._model_server)

    @property
    def state(self) -> str:
        """What ``/ping`` says: ``ready``, or why not."""
        if self.invocations.closing:
            return "ending"
        if self._engine_state == "ready" and self._heartbeat.stalled:
            return "stuck"
        if self._engine_state == "ready" and self._model_server.silent:
            return "waiting for the model server"
        return self._engine_state

    async def watch_engine(self) -> None:
        """Follow the engine's state for ever; it is ``down`` the moment its socket closes."""
        while True:
            try:
                async for event in protocol.stream(self._settings.socket_path, {"op": "status"}):
                    if event["state"] == "ready":
                        self.invocations.know_the_model(event["longest_token"])
                    self._engine_state = event["state"]
            except RequestError:
                if self._engine_state == "ready" and not self.invocations.closing:
                    self.invocations.crashes.crashed()
                self._engine_state = "down"
            await asyncio.sleep(_POLL_S)

    async def wait_for_a_generation(self) -> None:
        """Return after a generation went through the whole path."""
        while self._engine_state != "ready" or not await self._model_server.generates(
            self._settings.deadline_s
        ):
            await asyncio.sleep(_POLL_S)

    async def watch_model_server(self) -> None:
        """Ask a model server that did not answer a call in time, until it does again; for ever."""
        while True:
            await asyncio.sleep(_POLL_S)
            if self._model_server.silent and not self.invocations.closing:
                await self.wait_for_a_generation()

    async def drain(self) -> None:
        """Take no more calls. Those inside end by themselves, or after a while with what they have."""
        self.invocations.closing = True
        inside = self.invocations.admission
        say("gateway", f"ending: {inside.texts} texts are inside, and no more are taken")
        await self._empty_within(_DRAIN_S)
        if inside.texts:
            ending = asyncio.ensure_future(self._end_all())  # not waited for: an engine that hangs is silent
            await self._empty_within(_DRAIN_END_S)
            ending.cancel()
        say("gateway", f"ended: {inside.texts} texts are left without an answer")

    async def _end_all(self) -> None:
        """Have the engine end every text with what it has."""
        with contextlib.suppress(RequestError):
            async for _ in protocol.stream(self._settings.socket_path, {"op": "end"}):
                pass

    async def _empty_within(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while self.invocations.calls and time.monotonic() < ends:
            await asyncio.sleep(_POLL_S)

    async def log_load(self) -> None:
        """Write every 10 s how full the endpoint is, for a metric filter; an idle fleet must be seen too."""
        inside = self.invocations.admission
        while True:
            load = {
                "inf2kit": "load",
                "texts_inside": inside.texts,
                "texts_limit": inside.places,
                "rows": self._settings.shapes.batch_size,
            }
            write_line(json.dumps(load))
            await asyncio.sleep(_LOAD_EVERY_S)

    async def log_metrics(self) -> None:
        """Write a line a minute for ever; a minute without a call has none."""
        before, began = samples(await self.metrics()), time.monotonic()
        while True:
            await asyncio.sleep(_METRICS_EVERY_S)
            now, ended = samples(await self.metrics()), time.monotonic()
            if line := log_line(now, before, ended - began):
                say("metrics", line)
            before, began = now, ended

    async def metrics(self) -> str:
        """What the gateway and, where it answers, the engine have counted, in Prometheus' text format."""
        restarts = 0
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = (self._settings.run_dir / STATE_FILE).read_text(encoding="utf-8")
            restarts = int(json.loads(state)["restarts"])
        ready = self.state == "ready"
        text = self._metrics.text(ready=ready, restarts=restarts, admission=self.invocations.admission)
        with contextlib.suppress(RequestError):
            async for event in protocol.stream(self._settings.socket_path, {"op": "metrics"}):
                text += event.get("text", "")
        return text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"])
        try:
            if route == ("GET", "/ping"):
                state = self.state
                await self._answer(send, 200 if state == "ready" else 503, {"status": state})
            elif route == ("POST", "/invocations"):
                await self._invoke(scope, receive, send)
            elif route == ("GET", "/metrics"):
                await answer(send, 200, (await self.metrics()).encode(), {"content-type": CONTENT_TYPE})
            else:
                raise RequestError(404, "not_found", "there is GET /ping, POST /invocations, GET /metrics")
        except RequestError as error:
            headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
            await self._answer(send, error.status, error.body(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self.state != "ready":
                raise unavailable(f"the endpoint is not ready: {self.state}; try again in a moment")
            self._metrics.answered(*await self.invocations.answer(scope, receive, send))
        except RequestError as error:
            self._metrics.answered(error.status, error.code)
            raise
        except Exception:
            traceback.print_exc()
            self._metrics.answered(500, "internal_error")
            raise RequestError(500, "internal_error", "the gateway could not answer this call") from None

    async def _answer(
        self, send: Send, status: int, value: object, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        kind = {"content-type": "application/json"}
        await answer(send, status, body, {**kind, **self.invocations.closing_headers(), **(headers or {})})


async def _beat() -> None:
    heartbeat = Heartbeat.inherited(GATEWAY)
    heartbeat.begin(_STALL_S)
    while True:
        heartbeat.beat()
        await asyncio.sleep(_BEAT_S)


async def serve(settings: Settings) -> None:
    """Wait for a generation to go through, open the port, serve until SIGTERM, and end what is inside."""
    gateway = Gateway(settings, Heartbeat.inherited(ENGINE))
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    ended = asyncio.ensure_future(ending.wait())
    background = [asyncio.create_task(task) for task in (gateway.watch_engine(), _beat())]
    opened = settings.run_dir / OPENED_FILE
    if not opened.exists():
        proof = asyncio.ensure_future(gateway.wait_for_a_generation())
        await asyncio.wait({proof, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not proof.done():
            return
        say("gateway", "a generation went through")
        with contextlib.suppress(OSError):
            opened.touch()
    host, _, port = (settings.gateway_address or "0.0.0.0:8080").rpartition(":")
    # On a person's own machine any web page can call a port of it; in a container there are none.
    server = Connections(Loopback(gateway) if host == "127.0.0.1" else gateway, host, int(port))
    gateway.invocations.abort = server.abort
    say("gateway", f"opening {host}:{port}")
    serving = asyncio.create_task(server.serve())
    tasks = (gateway.log_metrics(), gateway.log_load(), gateway.watch_model_server())
    background += [asyncio.create_task(task) for task in tasks]
    await asyncio.wait({serving, ended, *background}, return_when=asyncio.FIRST_COMPLETED)
    for task in background:
        if task.done():
            task.result()  # its error ends the gateway, which is started again: it would not know the state
    if not serving.done():
        await gateway.drain()
        server.should_exit = True
    await serving
    for task in background:
        task.cancel()


def main(model_dir: str) -> None:
    """Serve the endpoint's port for the model in ``model_dir``."""
    end_with_parent()
    be_killed_first()
    asyncio.run(serve(Settings.read(model_dir)))


if __name__ == "__main__":
    main(sys.argv[1])
