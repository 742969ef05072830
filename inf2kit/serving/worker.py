"""The hooks of a worker: they pass each call on to the engine.

The Hugging Face toolkit calls the hooks of ``inference.py``, which calls these. The engine, one process for
the whole endpoint, has the model; the model server starts several workers, each of which runs these hooks.

An error is passed from hook to hook as a ``RequestError``, and ``output_fn`` answers with its status: the
toolkit answers every exception with status 400.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.serving.engine.events import WholeAnswer
from inf2kit.serving.engine.protocol import (
    ARRIVAL_HEADER,
    ENGINE_HEADER,
    WORKER_GRACE_S,
    EngineCall,
    call_engine,
)
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.watchdog import ensure_supervisor
from inf2kit.serving.wire import decode_body, parse_request, request_form, to_body


@dataclass(frozen=True)
class Model:
    """The model as a worker has it.

    Attributes:
        settings: The endpoint's settings, or None if the model cannot be loaded.
        reason: Why it cannot be loaded.
    """

    settings: Settings | None
    reason: str = ""


def model_fn(model_dir: str, context: Any = None) -> Model:
    """Start the engine if it does not run, and return at once: a load takes longer than a worker may."""
    ensure_supervisor(model_dir)
    try:
        return Model(Settings.read(model_dir))
    except ModelDirectoryError as error:
        # The supervisor logs it, too. After an exception the model server would start workers for ever.
        return Model(None, str(error))


def input_fn(body: bytes | str | None, content_type: str, context: Any = None) -> object:
    """The JSON value of the request's body, or a ``RequestError``."""
    try:
        return decode_body(body or b"", content_type)
    except RequestError as error:
        return error


def predict_fn(data: object, model: Model, context: Any = None) -> object:
    """The JSON value of the answer, or a ``RequestError``.

    Args:
        data: What ``input_fn`` returned.
        model: What ``model_fn`` returned.
        context: The model server's context of the request; None outside of a model server.
    """
    if isinstance(data, RequestError):
        return data
    try:
        if model.settings is None:
            raise unavailable(f"the model cannot be loaded: {model.reason}")
        return _generate(data, model.settings, context)
    except RequestError as error:
        error.form = request_form(data)
        return error


def output_fn(prediction: object, accept: str, context: Any = None) -> bytes:
    """The body of the answer, which ends with a newline. An error also sets the status and ``retry-after``.

    Args:
        prediction: What ``predict_fn`` returned.
        accept: The content type that the caller accepts; the answer is always JSON.
        context: The model server's context of the request; None outside of a model server.
    """
    if isinstance(prediction, RequestError):
        if context is not None:
            context.set_response_status(prediction.status, HTTPStatus(prediction.status).phrase, 0)
            if prediction.retry_after_s is not None:
                context.set_response_header(0, "retry-after", str(prediction.retry_after_s))
        prediction = prediction.body()
    return to_body(prediction)


def _generate(body: object, settings: Settings, context: Any) -> object:
    if parse_request(body, max_prompts=settings.max_prompts).stream:
        raise RequestError(
            400,
            "no_stream",
            "this endpoint runs without its gateway, which alone can stream; leave 'stream' out",
        )
    arrival = _arrival(context, settings)
    call = EngineCall("generate", body, arrival)
    until = arrival + settings.deadline_s + WORKER_GRACE_S
    answer = WholeAnswer()
    for event in call_engine(settings.socket_path(_engine(context, settings)), call, until=until):
        answer.add(event)
    return answer.body()


def _arrival(context: Any, settings: Settings) -> float:
    """When the call arrived at the gateway, in seconds of the monotonic clock that all processes share.

    Without a gateway the header would come from the caller, and is ignored.
    """
    if context is None or settings.gateway_address is None:
        return time.monotonic()
    return float(context.get_request_header(0, ARRIVAL_HEADER) or time.monotonic())


def _engine(context: Any, settings: Settings) -> int:
    """The number of the engine that has the call, which the gateway chooses; without one each worker does."""
    if settings.engines == 1:
        return 0
    if context is None or settings.gateway_address is None:
        return os.getpid() % settings.engines
    return int(context.get_request_header(0, ENGINE_HEADER) or 0)
