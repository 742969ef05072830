"""A worker's part in the endpoint, for ``inference.py``: it passes calls on to the engine.

The model lives in the engine, one process for the whole endpoint. The model server starts several workers,
each of which loads ``inference.py``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.serving.engine.events import WholeAnswer
from inf2kit.serving.engine.protocol import ARRIVAL_HEADER, WORKER_GRACE_S, EngineCall, call_engine
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.engine.watchdog import ensure_supervisor
from inf2kit.serving.wire import parse_request


@dataclass(frozen=True)
class EngineClient:
    """The engine as a worker sees it.

    Attributes:
        settings: The endpoint's settings, or None if the model cannot be loaded.
        reason: Why it cannot be loaded.
    """

    settings: Settings | None
    reason: str = ""

    def generate(self, body: object, context: Any = None) -> object:
        """Generate; the JSON value of the answer.

        Args:
            body: JSON value of the request's body.
            context: The model server's context of the request; None outside of a model server.

        Raises:
            RequestError: the call is refused, or cannot be answered; it has the status for the caller.
        """
        settings = self.settings
        if settings is None:
            raise unavailable(f"the model cannot be loaded: {self.reason}")
        if parse_request(body, max_prompts=settings.max_prompts).stream:
            raise RequestError(
                400,
                "no_stream",
                "this endpoint runs without its gateway, which alone can stream; leave 'stream' out",
            )
        arrival = _arrival(context, settings)
        answer = WholeAnswer()
        for event in call_engine(
            settings.socket_path,
            EngineCall("generate", body, arrival),
            until=arrival + settings.deadline_s + WORKER_GRACE_S,
        ):
            answer.add(event)
        return answer.body()


def start_engine(model_dir: str | Path) -> EngineClient:
    """Start the engine unless it runs, and return at once: a load takes longer than a worker may."""
    ensure_supervisor(model_dir)
    try:
        return EngineClient(Settings.read(model_dir))
    except ModelDirectoryError as error:
        # The supervisor logs it, too. After an exception the model server would start workers for ever.
        return EngineClient(None, str(error))


def set_error_status(error: RequestError, context: Any) -> None:
    """Answer with the status of an error, and with ``retry-after`` if another try makes sense.

    Without this the model server would answer every error with status 400.

    Args:
        error: The error.
        context: The model server's context of the request; None outside of a model server.
    """
    if context is not None:
        context.set_response_status(error.status, HTTPStatus(error.status).phrase, 0)
        if error.retry_after_s is not None:
            context.set_response_header(0, "retry-after", str(error.retry_after_s))


def _arrival(context: Any, settings: Settings) -> float:
    """When the call arrived at the gateway, in seconds of the monotonic clock that all processes share.

    Without a gateway the header would come from the caller, and is ignored.
    """
    if context is None or settings.gateway_address is None:
        return time.monotonic()
    return float(context.get_request_header(0, ARRIVAL_HEADER) or time.monotonic())
