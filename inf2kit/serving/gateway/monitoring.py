"""What the gateway tells of itself and of the engines: metrics for Prometheus, and lines in the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

from inf2kit.errors import RequestError
from inf2kit.serving.engine.events import Event, MetricsEvent
from inf2kit.serving.engine.metrics import GatewayMetrics, join_engines, parse_engine_samples, summarize
from inf2kit.serving.engine.protocol import EngineCall, stream_engine
from inf2kit.serving.gateway.routing import Engine, Router
from inf2kit.serving.log import log, log_line
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.run_state import SupervisorState

#: Seconds between two lines of metrics, and between two lines of load.
_METRICS_EVERY_S, _LOAD_EVERY_S = 60.0, 10.0
#: Seconds in which an engine must answer what its metrics are: a process that is stopped never does.
_ASKED_S = 2.0


class Monitoring:
    """The metrics of one endpoint.

    Args:
        settings: The endpoint's settings.
        router: Knows the engines.
        is_ready: Tells whether the endpoint answers calls.
    """

    def __init__(self, settings: Settings, router: Router, is_ready: Callable[[], bool]) -> None:
        self._settings = settings
        self._router = router
        self._is_ready = is_ready
        self._metrics = GatewayMetrics()
        self.record_call = self._metrics.record_call

    async def log_load(self) -> None:
        """Log every 10 s how many texts there are, for a metric filter; an idle endpoint reports too."""
        admission = self._router.admission
        while True:
            load = {
                "inf2kit": "load",
                "texts_inside": admission.texts,
                "texts_limit": admission.capacity,
                "rows": self._settings.engines * self._settings.shapes.batch_size,
            }
            if self._settings.engines > 1:
                load["engines_missing"] = self._settings.engines - len(self._router.serving)
            log_line(json.dumps(load))
            await asyncio.sleep(_LOAD_EVERY_S)

    async def log_metrics(self) -> None:
        """Log a summary of every minute that had a call, for ever."""
        before, began = parse_engine_samples(await self.metrics()), time.monotonic()
        while True:
            await asyncio.sleep(_METRICS_EVERY_S)
            now, ended = parse_engine_samples(await self.metrics()), time.monotonic()
            if summary := summarize(now, before, ended - began):
                log("metrics", summary)
            before, began = now, ended

    async def metrics(self) -> str:
        """The metrics of the gateway and of each engine that answers, in Prometheus' text format."""
        supervisor = SupervisorState.read(self._settings.run_dir)
        text = self._metrics.text(
            ready=self._is_ready(),
            restarts=supervisor.restarts if supervisor else 0,
            admission=self._router.admission,
            engines=len(self._router.engines),
            serving=len(self._router.serving),
        )
        answers = await asyncio.gather(
            *(ask(engine, EngineCall("metrics"), _ASKED_S) for engine in self._router.engines)
        )
        texts = {
            engine.number: event.text
            for engine, events in zip(self._router.engines, answers, strict=True)
            for event in events
            if isinstance(event, MetricsEvent)
        }
        return text + (join_engines(texts) if self._settings.engines > 1 else "".join(texts.values()))


async def ask(engine: Engine, call: EngineCall, within_s: float | None = None) -> list[Event]:
    """The events with which an engine answers; none where it does not, or not in time."""
    events: list[Event] = []

    async def collect() -> None:
        events.extend([event async for event in stream_engine(engine.socket_path, call)])

    with contextlib.suppress(RequestError, asyncio.TimeoutError):
        await asyncio.wait_for(collect(), within_s)
    return events
