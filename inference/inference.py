"""The hooks that the Hugging Face inference toolkit calls, and the only file that knows the toolkit.

They are thin: the model lives in the engine, one process for the whole endpoint, and a worker passes each
call on over a Unix socket. An error keeps its own status, which an exception would not: the toolkit turns
every exception into a 400.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.serving.engine import protocol
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.engine.watchdog import ensure_supervisor
from inf2kit.serving.wire import decode_body


@dataclass(frozen=True)
class Model:
    """What ``model_fn`` gives: the settings, or the reason why there are none."""

    settings: Settings | None
    reason: str = ""


def model_fn(model_dir: str, context: Any = None) -> Model:
    """See that the engine is being started, and return at once: a load takes longer than a worker may."""
    ensure_supervisor(model_dir)
    try:
        return Model(Settings.read(model_dir))
    except ModelDirectoryError as error:
        # The supervisor says so in the log; an exception here would make the model server try for ever.
        return Model(None, str(error))


def input_fn(body: bytes | str | None, content_type: str, context: Any = None) -> object:
    """The request's JSON value, or the error to answer with."""
    try:
        return decode_body(body or b"", content_type)
    except RequestError as error:
        return error


def predict_fn(data: object, model: Model, context: Any = None) -> object:
    """The answer's JSON value, or the error to answer with."""
    if isinstance(data, RequestError):
        return data
    try:
        if model.settings is None:
            raise unavailable(f"the model cannot be loaded: {model.reason}")
        return _generate(data, model.settings, _arrival(context, model.settings))
    except RequestError as error:
        return error


def output_fn(prediction: object, accept: str, context: Any = None) -> bytes:
    """The answer's body; an error sets the status and, for a full queue, the time to come back."""
    if not isinstance(prediction, RequestError):
        return json.dumps(prediction, ensure_ascii=False).encode()
    if context is not None:
        context.set_response_status(prediction.status, HTTPStatus(prediction.status).phrase, 0)
        if prediction.retry_after_s is not None:
            context.set_response_header(0, "retry-after", str(prediction.retry_after_s))
    return json.dumps(prediction.body(), ensure_ascii=False).encode()


def _generate(body: object, settings: Settings, arrival: float) -> object:
    if isinstance(body, dict) and body.get("stream") is True:
        raise RequestError(
            400,
            "no_stream",
            "this endpoint runs without its gateway, which alone can stream; leave 'stream' out",
        )
    answer = protocol.WholeAnswer()
    call = {"op": "generate", "body": body, "arrival": arrival}
    until = arrival + settings.deadline_s + protocol.WORKER_GRACE_S
    for event in protocol.call(settings.socket_path, call, until=until):
        answer.take(event)
    return answer.body()


def _arrival(context: Any, settings: Settings) -> float:
    """When the call came to the gateway, on the clock that all processes of the container share.

    Without a gateway the header would be a caller's own invention.
    """
    if context is None or settings.gateway_address is None:
        return time.monotonic()
    return float(context.get_request_header(0, protocol.ARRIVAL_HEADER) or time.monotonic())
