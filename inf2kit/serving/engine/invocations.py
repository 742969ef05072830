"""``POST /invocations`` at the gateway: a call is read, validated, admitted, and answered.

A stream comes from the engine; a whole answer comes through the model server, or from the engine where the
model server loses the call. Every call ends by its deadline and a grace, whatever the engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from inf2kit.errors import RequestError
from inf2kit.serving.asgi import Receive, Scope, Send, answer, disconnected, head, request_headers
from inf2kit.serving.engine import protocol
from inf2kit.serving.engine.admission import Admission, queue_timeout
from inf2kit.serving.engine.bodies import MAX_BODY, Bodies
from inf2kit.serving.engine.crashes import Crashes
from inf2kit.serving.engine.limits import body_limit, check_size
from inf2kit.serving.engine.model_server import ModelServer, ModelServerError, error_type, passed_back
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.wire import GenerateRequest, ResponseWriter, Token, drop_ignored_values, parse_request

#: A body that is larger is passed on without the values that nobody reads: it is parsed twice more.
_SMALL_BODY = 64 * 1024
#: What nginx logs for a caller that did not wait for its answer.
_CALLER_LEFT = 499
#: Seconds beyond a call's time in which the end of its answer is sent.
_LAST_S = 0.5


class GoneError(Exception):
    """The caller closed the connection, so that there is nobody to answer."""


@dataclass(frozen=True)
class Call:
    """One call that was read and validated.

    Attributes:
        request: What is asked for.
        payload: The same as a JSON value, for the engine.
        body: The same as JSON, for the model server.
        headers: Of the request.
        arrival: Monotonic time at which it came.
        until: Monotonic time by which it is answered, whatever happens.
        gone: Done when the caller has closed the connection.
    """

    request: GenerateRequest
    payload: dict[str, Any]
    body: bytes
    headers: dict[str, str]
    arrival: float
    until: float
    gone: asyncio.Future[None]


class Invocations:
    """Answers the calls of one endpoint.

    Args:
        settings: Of the endpoint.
        model_server: Of this container.

    Attributes:
        admission: Who is inside.
        crashes: What was inside when the engine ended.
        calls: Calls that are not answered yet, those whose body is still coming among them.
        closing: Whether connections are closed after their answer, as the endpoint ends.
        abort: Closes the connection of a request whose caller does not read.
    """

    def __init__(self, settings: Settings, model_server: ModelServer) -> None:
        self._settings = settings
        self._model_server = model_server
        self.admission = Admission(settings.max_prompts)
        self.crashes = Crashes()
        self.calls = 0
        self.closing = False
        self.abort: Callable[[Scope], None] = lambda _: None
        self._bodies = Bodies()
        self._longest_token = 0
        # Streams and whole answers share it, first come, first served: neither overtakes the other.
        self._turns = asyncio.Semaphore(max(settings.model_server_workers, 1))
        self._seconds_per_call = 1.0

    def know_the_model(self, longest_token: int) -> None:
        """The engine has loaded a model whose longest token has so many characters: that bounds bodies."""
        self._longest_token = longest_token
        longest = body_limit(self._settings.shapes, self._settings.max_prompts, longest_token)
        self._bodies.limit = min(longest, MAX_BODY)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str | None]:
        """Answer a call; its status, and its error's code where it is answered with one.

        Raises:
            RequestError: it is refused, or cannot be answered.
        """
        self.calls += 1
        try:
            return await self._answer(scope, receive, send)
        finally:
            self.calls -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str | None]:
        arrival = time.monotonic()
        headers = request_headers(scope)
        async with self._bodies.read(receive, headers) as body:
            call = await self._read(body, headers, arrival, asyncio.ensure_future(disconnected(receive)))
            body.clear()
            # A caller that does not read keeps its answer from being sent, and would keep its turn.
            left = call.until + _LAST_S - time.monotonic()
            slow_reader = asyncio.get_running_loop().call_later(left, self.abort, scope)
            try:
                with self._remembered(call.request) as outcome:
                    async with self._turn(call):
                        if call.request.stream:
                            outcome.code = await self._stream(call, send)
                            return 200, outcome.code
                        status, outcome.code = await self._whole(call, send)
                        return status, outcome.code
            except GoneError:
                return _CALLER_LEFT, "slow_reader" if time.monotonic() > call.until else None
            finally:
                slow_reader.cancel()
                call.gone.cancel()

    async def _read(
        self, body: bytearray, headers: dict[str, str], arrival: float, gone: asyncio.Future[None]
    ) -> Call:
        try:
            payload = await self._bodies.parse(body, headers.get("content-type"))
            request = parse_request(payload, max_prompts=self._settings.max_prompts)
            check_size(request, self._settings.shapes, self._longest_token)
        except BaseException:
            gone.cancel()
            raise
        read = cast("dict[str, Any]", payload)  # parse_request takes nothing else
        if len(body) > _SMALL_BODY:
            read = drop_ignored_values(read, request)
            whole = _as_json(read)
        else:
            whole = bytes(body)
        until = arrival + self._settings.deadline_s + protocol.GATEWAY_GRACE_S
        return Call(request, read, whole, headers, arrival, until, gone)

    @contextlib.contextmanager
    def _remembered(self, request: GenerateRequest) -> Iterator[_Outcome]:
        """A call's prompts are known while they are inside, for the case that the engine ends."""
        digests = self.crashes.enter(request)
        outcome = _Outcome()
        try:
            yield outcome
        except RequestError as error:
            outcome.code = error.code
            raise
        finally:
            self.crashes.leave(digests, failed=outcome.code == "unavailable")

    @contextlib.asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[None]:
        """Admit a call or refuse it, then wait for its turn."""
        texts = max(len(call.request.prompts), 1)
        waves = self.admission.texts / self._settings.shapes.batch_size
        hint = min(math.ceil(waves * self._seconds_per_call), math.ceil(self._settings.deadline_s))
        self.admission.enter(texts, retry_after_s=hint)
        try:
            left = call.arrival + self._settings.deadline_s - time.monotonic()
            turn = asyncio.ensure_future(self._turns.acquire())
            await _first_of(turn, call.gone, timeout_s=left)
            if not turn.done():
                turn.cancel()
                raise GoneError if call.gone.done() else queue_timeout()
            began = time.monotonic()
            try:
                yield
            finally:
                self._turns.release()
                self._seconds_per_call += 0.1 * (time.monotonic() - began - self._seconds_per_call)
        finally:
            self.admission.leave(texts)

    async def _whole(self, call: Call, send: Send) -> tuple[int, str | None]:
        """Answer a call through the model server, or without it where it cannot."""
        # A caller that goes away now is not noticed: a worker cannot be told; the deadline ends it.
        try:
            response = await self._model_server.post(
                call.body, call.headers, arrival=call.arrival, until=call.until
            )
        except ModelServerError:
            body = await self._from_engine(call)
            await answer(send, 200, body, {"content-type": "application/json", **self.closing_headers()})
            return 200, None
        headers = {**passed_back(response), **self.closing_headers()}
        await answer(send, response.status_code, response.content, headers)
        return response.status_code, error_type(response)

    def closing_headers(self) -> dict[str, str]:
        """What every answer of an endpoint that ends has among its headers."""
        return {"connection": "close"} if self.closing else {}

    async def _from_engine(self, call: Call) -> bytes:
        """A whole answer without the model server, which has ended or lost the worker that had this call."""
        events, gathered = self._events(call, stream=False), protocol.WholeAnswer()
        try:
            while (event := await _next(events, call))["event"] != "done":
                gathered.take(event)
        finally:
            await events.aclose()
        return _as_json(gathered.body())

    async def _stream(self, call: Call, send: Send) -> str | None:
        """Stream an answer; its error's code where it broke off."""
        events = self._events(call, stream=True)
        try:
            accepted = await _next(events, call)
            # Nothing is sent before the first token, so that a refusal still has a status of its own.
            event = accepted if accepted["event"] == "error" else await _next(events, call)
            if event["event"] == "error":
                raise protocol.raised(event)
            writer = protocol.writer(accepted)
            kind = {"content-type": "text/event-stream", "cache-control": "no-cache"}
            await send(head(200, {**kind, **self.closing_headers()}))
            await _send_records(send, writer.first_records())
            while True:
                await _send_records(send, _written(writer, event))
                if event["event"] != "token":
                    break
                try:
                    event = await _next(events, call)
                except RequestError as error:
                    event = protocol.error_event(error)
        finally:
            # Closes the engine's socket, and with it the row.
            await events.aclose()
        await send({"type": "http.response.body", "body": b""})
        return event["code"] if event["event"] == "error" else None

    def _events(self, call: Call, *, stream: bool) -> AsyncGenerator[protocol.Event, None]:
        request = {"op": "generate", "body": call.payload, "arrival": call.arrival, "stream": stream}
        return protocol.stream(self._settings.socket_path, request)


@dataclass
class _Outcome:
    """The code of the error that a call ended with, if any."""

    code: str | None = None


async def _next(events: AsyncGenerator[protocol.Event, None], call: Call) -> protocol.Event:
    """The next event, unless the caller goes away or the call's time is over first."""
    left = call.until - time.monotonic()
    if left <= 0:
        raise protocol.not_in_time()  # however many events are there already
    coming = asyncio.ensure_future(anext(events))
    try:
        await _first_of(coming, call.gone, timeout_s=left)
        if coming.done():
            return coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            # A generator that is still running cannot be closed.
            await asyncio.gather(coming, return_exceptions=True)
    raise GoneError if call.gone.done() else protocol.not_in_time()


async def _first_of(*futures: asyncio.Future[Any], timeout_s: float) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _send_records(send: Send, records: list[bytes]) -> None:
    for record in records:
        await send({"type": "http.response.body", "body": record, "more_body": True})


def _as_json(value: object) -> bytes:
    """JSON in as few bytes as it takes: the model server counts them, and six for a letter are many."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a pair of surrogates, in a name that nobody reads
        return json.dumps(value).encode("ascii")


def _written(writer: ResponseWriter, event: protocol.Event) -> list[bytes]:
    if event["event"] == "error":
        return writer.error_records(protocol.raised(event))
    token = Token(**event["token"])
    if event["event"] == "token":
        return writer.token_records(event["index"], token)
    return writer.last_records(event["index"], token, protocol.generation(event))
