"""The gate: the process that owns the endpoint's port.

The model server says healthy before its model is loaded and cannot stream. So the port opens only after a
generation went all the way through model server, worker and engine; ``/ping`` tells the engine's state;
calls are admitted or refused on arrival; ``stream: true`` is served from the engine; everything else passes
through the model server, so that ``predict_fn`` stays in the path.

Run as ``python -m engine.gate MODEL_DIR``; the supervisor does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from engine import protocol
from engine.admission import queue_full, queue_timeout
from engine.lifetime import STATE_FILE, end_with_parent, say
from engine.metrics import CONTENT_TYPE, GateMetrics, log_line, samples
from engine.settings import Settings
from inf2kit.asgi import (
    KEEP_ALIVE_S,
    DisconnectedError,
    Receive,
    Scope,
    Send,
    answer,
    body_parts,
    disconnected,
    head,
    request_headers,
)
from inf2kit.errors import RequestError, unavailable
from inf2kit.wire import Token, Writer, decode_body, too_many_inputs

#: What SageMaker lets through to a container, and a little more: the model server's own limit.
MAX_BODY = 6_553_500
_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_POLL_S = 0.05
_LOG_EVERY_S = 60.0
#: Seconds beyond the deadline within which the engine answers in any case.
_GRACE_S = 10.0


class _GoneError(Exception):
    """The caller closed the connection, so that there is nobody to answer."""


class Gate:
    """An ASGI application for ``GET /ping``, ``POST /invocations`` and ``GET /metrics``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine_state = "loading"
        self._inside = 0
        # Streams and whole answers share it, first come, first served: neither overtakes the other.
        self._turns = asyncio.Semaphore(max(settings.model_server_workers, 1))
        self._seconds_per_call = 1.0
        self._metrics = GateMetrics()
        self._model_server = _client_of(settings.model_server_address, settings.deadline_s + _GRACE_S)

    async def watch_engine(self) -> None:
        """Follow the engine's state for ever; it is ``down`` the moment its socket closes."""
        while True:
            try:
                async for event in protocol.stream(self._settings.socket_path, {"op": "status"}):
                    self._engine_state = event["state"]
            except RequestError:
                self._engine_state = "down"
            await asyncio.sleep(_POLL_S)

    async def wait_for_a_generation(self) -> None:
        """Return after a generation of two tokens (a prefill and a decode) went through the whole path."""
        probe = {"inputs": "ready", "parameters": {"max_new_tokens": 2, "ignore_eos": True}}
        body = json.dumps(probe).encode()
        while True:
            if self._engine_state == "ready":
                try:
                    if (await self._forward(body, {}, time.monotonic())).status_code == 200:
                        return
                except RequestError:
                    pass
            await asyncio.sleep(_POLL_S)

    async def log_metrics(self) -> None:
        """Write a line a minute for ever; a minute without a call has none."""
        before, began = samples(await self.metrics()), time.monotonic()
        while True:
            await asyncio.sleep(_LOG_EVERY_S)
            now, ended = samples(await self.metrics()), time.monotonic()
            if line := log_line(now, before, ended - began):
                say("metrics", line)
            before, began = now, ended

    async def metrics(self) -> str:
        """What the gate and, where it answers, the engine have counted, in Prometheus' text format."""
        restarts = 0
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = (self._settings.run_dir / STATE_FILE).read_text(encoding="utf-8")
            restarts = int(json.loads(state)["restarts"])
        text = self._metrics.text(ready=self._engine_state == "ready", restarts=restarts, inside=self._inside)
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
                ready = self._engine_state == "ready"
                await _answer_json(send, 200 if ready else 503, {"status": self._engine_state})
            elif route == ("POST", "/invocations"):
                await self._count(self._invoke(scope, receive, send))
            elif route == ("GET", "/metrics"):
                await answer(send, 200, (await self.metrics()).encode(), {"content-type": CONTENT_TYPE})
            else:
                raise RequestError(404, "not_found", "there is GET /ping, POST /invocations, GET /metrics")
        except RequestError as error:
            headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
            await _answer_json(send, error.status, error.body(), headers)

    async def _count(self, invocation: Awaitable[tuple[int, str | None]]) -> None:
        try:
            self._metrics.answered(*await invocation)
        except RequestError as error:
            self._metrics.answered(error.status, error.code)
            raise

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str | None]:
        """Answer a call; its status, and its error's code where the model server gave one."""
        arrival = time.monotonic()
        headers = request_headers(scope)
        body = await _read_body(receive)
        if self._engine_state != "ready":
            raise unavailable(f"the engine is {self._engine_state}; try again in a moment")
        payload = decode_body(body, headers.get("content-type"))
        inputs = payload.get("inputs") if isinstance(payload, dict) else None
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            async with self._turn(len(inputs) if isinstance(inputs, list) else 1, arrival, gone):
                if isinstance(payload, dict) and payload.get("stream") is True:
                    return 200, await self._stream(payload, arrival, gone, send)
                # A caller that goes away now is not noticed: a worker cannot be told; the deadline
                # ends it.
                response = await self._forward(body, headers, arrival)
                await answer(send, response.status_code, response.content, _kept_headers(response.headers))
                return response.status_code, _error_type(response)
        except _GoneError:
            return 499, None  # what nginx logs for a caller that did not wait for its answer
        finally:
            gone.cancel()

    @asynccontextmanager
    async def _turn(self, prompts: int, arrival: float, gone: asyncio.Future[None]) -> AsyncIterator[None]:
        """Admit a call or refuse it, then wait for its turn."""
        limit = self._settings.max_prompts
        if prompts > limit:
            raise too_many_inputs(prompts, limit)
        if self._inside + prompts > limit:
            waves = self._inside / self._settings.shapes.batch_size
            hint = min(math.ceil(waves * self._seconds_per_call), math.ceil(self._settings.deadline_s))
            raise queue_full(self._inside, limit, retry_after_s=hint)
        self._inside += prompts
        try:
            left = arrival + self._settings.deadline_s - time.monotonic()
            turn = asyncio.ensure_future(self._turns.acquire())
            await _first_of(turn, gone, timeout_s=left)
            if not turn.done():
                turn.cancel()
                raise _GoneError if gone.done() else queue_timeout()
            began = time.monotonic()
            try:
                yield
            finally:
                self._turns.release()
                self._seconds_per_call += 0.1 * (time.monotonic() - began - self._seconds_per_call)
        finally:
            self._inside -= prompts

    async def _forward(self, body: bytes, headers: dict[str, str], arrival: float) -> httpx.Response:
        # The character set keeps the toolkit from decoding the body, which would turn bad UTF-8 into an
        # error without a reason; the arrival starts the call's deadline here and not behind a queue.
        passed = {
            "content-type": "application/json; charset=utf-8",
            "accept": "application/json",
            protocol.ARRIVAL_HEADER: repr(arrival),
        }
        if _CUSTOM_ATTRIBUTES in headers:
            passed[_CUSTOM_ATTRIBUTES] = headers[_CUSTOM_ATTRIBUTES]
        try:
            response = await self._model_server.post("/invocations", content=body, headers=passed)
        except httpx.HTTPError as error:
            raise unavailable(
                f"the model server did not answer ({type(error).__name__}); try again in a moment"
            ) from None
        if response.status_code == 500 and b"error_type" not in response.content:
            # Not one of ours: the model server says so when a worker ends in the middle of a call.
            raise unavailable("a worker ended in the middle of this call; try again in a moment")
        return response

    async def _stream(
        self, payload: dict[str, Any], arrival: float, gone: asyncio.Future[None], send: Send
    ) -> str | None:
        """Stream an answer; its error's code where it broke off."""
        call = {"op": "generate", "body": payload, "arrival": arrival, "stream": True}
        events = protocol.stream(self._settings.socket_path, call)
        try:
            accepted = await _next(events, gone)
            # Nothing is sent before the first token, so that a refusal still has a status of its own.
            event = accepted if accepted["event"] == "error" else await _next(events, gone)
            if event["event"] == "error":
                raise protocol.raised(event)
            writer = protocol.writer(accepted)
            await send(head(200, {"content-type": "text/event-stream", "cache-control": "no-cache"}))
            await _send_records(send, writer.first_records())
            while True:
                await _send_records(send, _written(writer, event))
                if event["event"] != "token":
                    break
                try:
                    event = await _next(events, gone)
                except RequestError as error:
                    event = protocol.error_event(error)
        finally:
            # Closes the engine's socket, and with it the row.
            await events.aclose()
        await send({"type": "http.response.body", "body": b""})
        return event["code"] if event["event"] == "error" else None


def _client_of(address: str, timeout_s: float) -> httpx.AsyncClient:
    """A client of the model server, which listens on a Unix socket (``unix:PATH``) or at a URL."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
    path = address.removeprefix("unix:")
    uds, url = (path, "http://model-server") if path != address else (None, address)
    transport = httpx.AsyncHTTPTransport(uds=uds, limits=limits, trust_env=False)
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=timeout_s)


async def _next(events: AsyncGenerator[protocol.Event, None], gone: asyncio.Future[None]) -> protocol.Event:
    """The next event, unless the caller goes away first."""
    coming = asyncio.ensure_future(anext(events))
    await _first_of(coming, gone)
    if coming.done():
        return coming.result()
    coming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coming  # a generator that is still running cannot be closed
    raise _GoneError


async def _first_of(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _send_records(send: Send, records: list[bytes]) -> None:
    for record in records:
        await send({"type": "http.response.body", "body": record, "more_body": True})


def _written(writer: Writer, event: protocol.Event) -> list[bytes]:
    if event["event"] == "error":
        return writer.error_records(protocol.raised(event))
    token = Token(**event["token"])
    if event["event"] == "token":
        return writer.token_records(event["index"], token)
    return writer.last_records(event["index"], token, protocol.generation(event))


def _kept_headers(headers: httpx.Headers) -> dict[str, str]:
    kept = ("content-type", "retry-after", _CUSTOM_ATTRIBUTES)
    return {name: headers[name] for name in kept if name in headers}


def _error_type(response: httpx.Response) -> str | None:
    if response.status_code < 400:
        return None
    try:
        return str(response.json()["error_type"])
    except (ValueError, KeyError, TypeError):
        return "model_server"


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    try:
        async for part in body_parts(receive):
            body += part
            if len(body) > MAX_BODY:
                raise RequestError(
                    413,
                    "body_too_large",
                    f"the body is larger than {MAX_BODY:,} bytes; send a shorter text, or several calls",
                )
    except DisconnectedError:
        raise RequestError(
            400, "disconnected", "the caller closed the connection before the body's end"
        ) from None
    return bytes(body)


async def _answer_json(send: Send, status: int, value: object, headers: dict[str, str] | None = None) -> None:
    body = json.dumps(value, ensure_ascii=False).encode()
    await answer(send, status, body, {"content-type": "application/json", **(headers or {})})


async def serve(settings: Settings) -> None:
    """Wait for a generation to go through, then open the port and serve until told to end."""
    gate = Gate(settings)
    watching = asyncio.create_task(gate.watch_engine())
    await gate.wait_for_a_generation()
    host, _, port = (settings.gate_address or "0.0.0.0:8080").rpartition(":")
    # uvicorn binds by itself: asyncio sets TCP_NODELAY on its own sockets only, and without it every answer
    # on a kept-alive connection waits 40 ms for an acknowledgement.
    config = uvicorn.Config(
        gate,
        host=host,
        port=int(port),
        backlog=512,
        timeout_keep_alive=KEEP_ALIVE_S,
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    say("gate", f"a generation went through; opening {host}:{port}")
    logging = asyncio.create_task(gate.log_metrics())
    await uvicorn.Server(config).serve()
    for task in (watching, logging):
        task.cancel()


def main(model_dir: str) -> None:
    """Serve the endpoint's port for the model in ``model_dir``."""
    end_with_parent()
    asyncio.run(serve(Settings.read(model_dir)))


if __name__ == "__main__":
    main(sys.argv[1])
