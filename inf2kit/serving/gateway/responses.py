"""The gateway's answers to valid calls: whole through the model server, streams from the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from inf2kit.errors import RequestError
from inf2kit.serving.asgi import Send, answer, head
from inf2kit.serving.engine.events import (
    AcceptedEvent,
    EndEvent,
    Event,
    TokenEvent,
    WholeAnswer,
    engine_went_away,
)
from inf2kit.serving.engine.protocol import EngineCall, not_in_time, stream_engine
from inf2kit.serving.gateway.model_server import ModelServer, ModelServerError, error_type, passed_back
from inf2kit.serving.gateway.routing import Engine
from inf2kit.serving.wire import GenerateRequest, ResponseWriter, to_body


class GoneError(Exception):
    """The caller closed the connection, so an answer would reach nobody."""


@dataclass(frozen=True)
class Invocation:
    """One valid call.

    Attributes:
        request: The parsed body.
        payload: JSON value of the body, for the engine.
        body: JSON text of the body, for the model server.
        headers: Headers of the call, names in lower case.
        arrival: Monotonic time at which the call arrived.
        until: Monotonic time by which it is answered in any case.
        gone: Done when the caller has closed the connection.
    """

    request: GenerateRequest
    payload: Mapping[str, Any]
    body: bytes
    headers: Mapping[str, str]
    arrival: float
    until: float
    gone: asyncio.Future[None]

    async def wait_for(self, future: asyncio.Future[Any], until: float) -> bool:
        """Wait for the future, the caller's end or the time ``until``; whether the future is done."""
        remaining_s = until - time.monotonic()
        await asyncio.wait((future, self.gone), timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
        return future.done()


class Responses:
    """Answers calls of one endpoint, one by one.

    Args:
        model_server: The model server of this container.
        headers: Headers of every answer; they may change at any time.
    """

    def __init__(self, model_server: ModelServer, headers: Mapping[str, str]) -> None:
        self._model_server = model_server
        self._headers = headers

    async def send(self, invocation: Invocation, engine: Engine, send: Send) -> tuple[int, str | None]:
        """Answer a call.

        Args:
            invocation: The call.
            engine: The engine that it has a turn with.
            send: Takes the answer.

        Returns:
            The status, and the code of the error if the answer is one or broke off with one.

        Raises:
            RequestError: the call cannot be answered, and nothing was sent.
            GoneError: the caller closed the connection.
        """
        if invocation.request.stream:
            return 200, await self._stream(invocation, engine, send)
        return await self._send_whole(invocation, engine, send)

    async def _send_whole(self, invocation: Invocation, engine: Engine, send: Send) -> tuple[int, str | None]:
        # A caller that goes away now is not noticed: a worker cannot be interrupted; the deadline ends it.
        try:
            response = await self._model_server.post(
                invocation.body,
                invocation.headers,
                arrival=invocation.arrival,
                until=invocation.until,
                engine=engine.number,
            )
        except ModelServerError:
            body = await self._from_engine(invocation, engine)
            await answer(send, 200, body, {"content-type": "application/json", **self._headers})
            return 200, None
        headers = {**passed_back(response), **self._headers}
        body = response.content
        if _is_json(response) and not body.endswith(b"\n"):
            body += b"\n"  # from a handler that a user has written: clients that read lines wait for it
        await answer(send, response.status_code, body, headers)
        return response.status_code, error_type(response)

    async def _from_engine(self, invocation: Invocation, engine: Engine) -> bytes:
        """A whole answer without the model server, which has ended or lost the worker that had this call."""
        events, whole_answer = _events(invocation, engine), WholeAnswer()
        try:
            while event := await _next_event(events, invocation):
                whole_answer.add(event)
        finally:
            await events.aclose()
        return to_body(whole_answer.body())

    async def _stream(self, invocation: Invocation, engine: Engine, send: Send) -> str | None:
        """Stream an answer; the code of the error if it breaks off."""
        events = _events(invocation, engine)
        error_code = None
        try:
            # Nothing is sent before the first token, so that a refusal has a status of its own.
            accepted = await _next_event(events, invocation)
            event = await _next_event(events, invocation)
            if not isinstance(accepted, AcceptedEvent):
                raise engine_went_away()
            writer = accepted.writer()
            stream_headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
            await send(head(200, {**stream_headers, **self._headers}))
            await _send_records(send, writer.first_records())
            try:
                remaining = accepted.texts
                while remaining:
                    remaining -= isinstance(event, EndEvent)
                    await _send_records(send, _records(writer, event))
                    if remaining:
                        event = await _next_event(events, invocation)
            except RequestError as error:
                await _send_records(send, writer.error_records(error))
                error_code = error.code
        finally:
            # Closes the engine's socket, which frees the row.
            await events.aclose()
        await send({"type": "http.response.body", "body": b""})
        return error_code


def _events(invocation: Invocation, engine: Engine) -> AsyncGenerator[Event, None]:
    call = EngineCall("generate", invocation.payload, invocation.arrival)
    return stream_engine(engine.socket_path, call)


async def _next_event(events: AsyncGenerator[Event, None], invocation: Invocation) -> Event | None:
    """The next event of a call, None after the last one.

    Raises:
        RequestError: the engine's error; 503 if the call's time is over.
        GoneError: the caller closed the connection.
    """
    if invocation.until <= time.monotonic():
        raise not_in_time()  # even if there are events already
    next_event = asyncio.ensure_future(anext(events, None))
    try:
        if await invocation.wait_for(next_event, invocation.until):
            return next_event.result()
    finally:
        if not next_event.done():
            next_event.cancel()
            # A generator that is still running cannot be closed.
            await asyncio.gather(next_event, return_exceptions=True)
    raise GoneError if invocation.gone.done() else not_in_time()


def _is_json(response: httpx.Response) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip() == "application/json"


async def _send_records(send: Send, records: list[bytes]) -> None:
    for record in records:
        await send({"type": "http.response.body", "body": record, "more_body": True})


def _records(writer: ResponseWriter, event: Event | None) -> list[bytes]:
    if isinstance(event, TokenEvent):
        return writer.token_records(event.choice, event.index, event.token)
    if isinstance(event, EndEvent):
        return writer.last_records(event.choice, event.index, event.token, event.generation)
    raise engine_went_away()
