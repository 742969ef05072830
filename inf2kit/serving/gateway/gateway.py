"""The gateway: the process that owns the endpoint's port.

The model server reports healthy before its model is loaded, and cannot stream. So the gateway opens the port
only after a generation went through model server, worker and engine, and its ``/ping`` reports the engine's
state. It admits or refuses calls on arrival, and serves ``stream: true`` from the engine. Everything else
passes through the model server, so that ``predict_fn`` stays in the path.

The supervisor starts it as ``python -m inf2kit.serving.gateway.gateway MODEL_DIR``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import traceback

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.asgi import Receive, Scope, Send, answer
from inf2kit.serving.engine.events import StatusEvent
from inf2kit.serving.engine.metrics import CONTENT_TYPE
from inf2kit.serving.engine.protocol import EngineCall, stream_engine
from inf2kit.serving.gateway.connections import Connections
from inf2kit.serving.gateway.invocations import Invocations
from inf2kit.serving.gateway.model_server import ModelServer
from inf2kit.serving.gateway.monitoring import Monitoring, ask
from inf2kit.serving.gateway.routing import Engine, Router
from inf2kit.serving.log import log
from inf2kit.serving.loopback import Loopback
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import ENGINES, GATEWAY, Heartbeat
from inf2kit.serving.supervision.processes import be_killed_first, end_with_parent
from inf2kit.serving.supervision.run_state import mark_opened, was_opened
from inf2kit.serving.wire import Form, to_body

#: The routes of calls, and the schema of each; on SageMaker's own the body decides.
_ROUTES: dict[str, Form | None] = {
    "/invocations": None,
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
}
_OPENAI = "/v1/"
_POLL_S = 0.05
#: Seconds after SIGTERM in which calls end by themselves, and after that with the tokens they have. SageMaker
#: kills a container after 30 s.
_DRAIN_S, _DRAIN_END_S = 25.0, 2.0
#: Seconds between two beats, and without a beat after which the gateway counts as stuck.
_BEAT_S, _STALL_S = 0.5, 10.0


class Gateway:
    """An ASGI application for ``GET /ping``, ``POST /invocations``, OpenAI's routes and ``GET /metrics``.

    Args:
        settings: The endpoint's settings.
        heartbeats: The heartbeat of each engine.

    Attributes:
        router: Knows the engines.
        monitoring: Metrics, and lines in the log.
        invocations: Answers calls.
    """

    def __init__(self, settings: Settings, heartbeats: list[Heartbeat]) -> None:
        self._settings = settings
        self._began = int(time.time())
        self._model_server = ModelServer(settings.model_server_address)
        self.router = Router(settings, heartbeats)
        self.monitoring = Monitoring(settings, self.router, lambda: self.state == "ready")
        self.invocations = Invocations(settings, self._model_server, self.router)

    @property
    def state(self) -> str:
        """``ready``, or why the endpoint answers no calls."""
        if self.invocations.closing:
            return "ending"
        if self.router.state == "ready" and self._model_server.silent:
            return "waiting for the model server"
        return self.router.state

    @property
    def health(self) -> str:
        """What ``/ping`` reports: ``ready``, or why the endpoint is not healthy."""
        serving, state = len(self.router.serving), self.state
        if state == "ready" and serving < self._settings.min_engines:
            return f"{serving} of {self._settings.engines} engines serve"
        return state

    async def watch_engine(self, engine: Engine) -> None:
        """Follow an engine's state for ever. It is ``down`` as soon as its socket closes."""
        while True:
            try:
                async for event in stream_engine(engine.socket_path, EngineCall("status")):
                    if isinstance(event, StatusEvent):
                        if event.state == "ready":
                            self.invocations.set_longest_token(event.longest_token)
                        self.router.report(engine, event.state)
            except RequestError:
                self.router.report(engine, "down")
            await asyncio.sleep(_POLL_S)

    async def wait_for_generations(self) -> None:
        """Return when a generation has gone through model server, worker and each engine, and all serve."""
        while True:
            for engine in self.router.engines:
                while engine.state != "ready" or not await self._can_generate(engine):
                    await asyncio.sleep(_POLL_S)
            # One may have ended while another loaded.
            if len(self.router.serving) == len(self.router.engines):
                return

    async def watch_model_server(self) -> None:
        """Call a model server that did not answer in time again and again until it does; for ever."""
        while True:
            await asyncio.sleep(_POLL_S)
            if self._model_server.silent and not self.invocations.closing:
                for engine in self.router.serving[:1]:
                    await self._can_generate(engine)

    async def _can_generate(self, engine: Engine) -> bool:
        return await self._model_server.can_generate(self._settings.deadline_s, engine.number)

    async def drain(self) -> None:
        """Take no more calls, and wait until those in progress have ended, with fewer tokens if need be."""
        self.invocations.close()
        admission = self.router.admission
        log("gateway", f"ending: {admission.texts} texts are inside, and no more are taken")
        await self._wait_for_calls(_DRAIN_S)
        if admission.texts:
            ending = asyncio.ensure_future(
                self._end_all()
            )  # not awaited: an engine that hangs does not answer
            await self._wait_for_calls(_DRAIN_END_S)
            ending.cancel()
        log("gateway", f"ended: {admission.texts} texts are left without an answer")

    async def _end_all(self) -> None:
        """Have the engines end every text with the tokens that it has."""
        await asyncio.gather(*(ask(engine, EngineCall("end")) for engine in self.router.engines))

    async def _wait_for_calls(self, seconds: float) -> None:
        give_up_at = time.monotonic() + seconds
        while self.invocations.calls and time.monotonic() < give_up_at:
            await asyncio.sleep(_POLL_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"])
        try:
            if route == ("GET", "/ping"):
                health = self.health
                await self._answer_json(send, 200 if health == "ready" else 503, {"status": health})
            elif scope["method"] == "POST" and scope["path"] in _ROUTES:
                await self._invoke(scope, receive, send)
            elif route == ("GET", "/metrics"):
                await answer(
                    send, 200, (await self.monitoring.metrics()).encode(), {"content-type": CONTENT_TYPE}
                )
            elif route == ("GET", "/v1/models"):
                await self._answer_json(send, 200, self._models())
            else:
                calls = ", ".join(f"POST {path}" for path in _ROUTES)
                routes = f"there is GET /ping, {calls}, GET /v1/models, GET /metrics"
                raise RequestError(404, "not_found", routes)
        except RequestError as error:
            if scope["path"].startswith(_OPENAI):
                error.form = "chat"  # also where the body could not be read
            headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
            await self._answer_json(send, error.status, error.body(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refusal = None
            if self.state != "ready":
                refusal = unavailable(f"the endpoint is not ready: {self.state}; try again in a moment")
            status, error_code = await self.invocations.answer(
                scope, receive, send, form=_ROUTES[scope["path"]], refusal=refusal
            )
            self.monitoring.record_call(status, error_code)
        except RequestError as error:
            self.monitoring.record_call(error.status, error.code)
            raise
        except Exception:
            traceback.print_exc()
            self.monitoring.record_call(500, "internal_error")
            raise RequestError(500, "internal_error", "the gateway could not answer this call") from None

    def _models(self) -> dict[str, object]:
        """OpenAI's list of models, which several clients ask for before their first call."""
        model = {
            "id": self._settings.model_name,
            "object": "model",
            "created": self._began,
            "owned_by": "inf2kit",
        }
        return {"object": "list", "data": [model]}

    async def _answer_json(
        self, send: Send, status: int, value: object, headers: dict[str, str] | None = None
    ) -> None:
        body = to_body(value)
        content_type = {"content-type": "application/json"}
        await answer(send, status, body, {**content_type, **self.invocations.headers, **(headers or {})})


async def _beat() -> None:
    heartbeat = Heartbeat.inherited(GATEWAY)
    heartbeat.begin(_STALL_S)
    while True:
        heartbeat.beat()
        await asyncio.sleep(_BEAT_S)


async def serve(settings: Settings) -> None:
    """Wait for a first generation, open the port, serve until SIGTERM, and drain."""
    gateway = Gateway(settings, Heartbeat.inherited_list(ENGINES, settings.engines))
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    ending = asyncio.ensure_future(terminated.wait())
    watches = [gateway.watch_engine(engine) for engine in gateway.router.engines]
    background = [asyncio.create_task(task) for task in (*watches, _beat())]
    # A later gateway of the same container opens the port at once.
    if not was_opened(settings.run_dir):
        generations = asyncio.ensure_future(gateway.wait_for_generations())
        await asyncio.wait({generations, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not generations.done():
            return
        log("gateway", "a generation went through")
        mark_opened(settings.run_dir)
    host, _, port = (settings.gateway_address or "0.0.0.0:8080").rpartition(":")
    # On a person's own machine any web page can call a port of it; a container has no browser.
    server = Connections(Loopback(gateway) if host == "127.0.0.1" else gateway, host, int(port))
    gateway.invocations.abort = server.abort
    log("gateway", f"opening {host}:{port}")
    serving = asyncio.create_task(server.serve())
    tasks = (gateway.monitoring.log_metrics(), gateway.monitoring.log_load(), gateway.watch_model_server())
    background += [asyncio.create_task(task) for task in tasks]
    await asyncio.wait({serving, ending, *background}, return_when=asyncio.FIRST_COMPLETED)
    for task in background:
        if task.done():
            task.result()  # raises its error, and the supervisor starts another gateway
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
