"""One call at the gateway, by SageMaker's route or by one of OpenAI's: read, validated, admitted, answered.

Every call ends by its deadline plus a grace, whatever the engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

from inf2kit.errors import RequestError
from inf2kit.serving.asgi import Receive, Scope, Send, disconnected, request_headers
from inf2kit.serving.engine.admission import queue_timeout
from inf2kit.serving.engine.limits import check_size, max_body_bytes, truncates
from inf2kit.serving.engine.protocol import GATEWAY_GRACE_S
from inf2kit.serving.gateway.bodies import MAX_BODY, Bodies
from inf2kit.serving.gateway.crashes import Prompts, prompts_of
from inf2kit.serving.gateway.model_server import ModelServer
from inf2kit.serving.gateway.responses import GoneError, Invocation, Responses
from inf2kit.serving.gateway.routing import Engine, Router
from inf2kit.serving.settings import Settings
from inf2kit.serving.wire import (
    Form,
    check_form,
    drop_ignored_values,
    encode_json,
    parse_request,
    request_form,
)

#: Bytes above which a body is passed on without the values of unknown keys, as it is parsed twice more.
_SMALL_BODY = 64 * 1024
#: The status that nginx logs for a caller that did not wait for its answer.
_CALLER_LEFT = 499
#: Seconds after a call's time in which the end of its answer is sent.
_LAST_S = 0.5


class Invocations:
    """Answers the calls of one endpoint.

    Args:
        settings: The endpoint's settings.
        model_server: The model server of this container.
        router: The engines of this container.

    Attributes:
        router: Gives calls their turns with the engines.
        calls: Number of calls that are not answered yet, including those whose body is still coming.
        closing: Whether connections are closed after their answer.
        headers: Headers of every answer.
        abort: Closes the connection of a request whose caller does not read.
    """

    def __init__(self, settings: Settings, model_server: ModelServer, router: Router) -> None:
        self._settings = settings
        self.router = router
        self.calls = 0
        self.abort: Callable[[Scope], None] = lambda _: None
        self.closing = False
        self.headers: dict[str, str] = {}
        self._responses = Responses(model_server, self.headers)
        self._bodies = Bodies()
        self._longest_token = 0
        self._usable_bytes = MAX_BODY
        self._seconds_per_call = 1.0

    def close(self) -> None:
        """Close every connection after its answer from now on: the endpoint ends."""
        self.closing = True
        self.headers["connection"] = "close"

    def set_longest_token(self, longest_token: int) -> None:
        """Set the characters of the vocabulary's longest token, which limits the length of texts."""
        self._longest_token = longest_token
        self._usable_bytes = max_body_bytes(self._settings.shapes, self._settings.max_prompts, longest_token)

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        form: Form | None = None,
        refusal: RequestError | None = None,
    ) -> tuple[int, str | None]:
        """Answer a call.

        Args:
            scope: ASGI scope of the request.
            receive: Gives the request's body.
            send: Takes the answer.
            form: The schema of the route; None where the body decides.
            refusal: Why the call is refused, whatever its body is. The body is read all the same, as the
                error is in its schema.

        Returns:
            The status, and the code of the error if the answer is one or broke off with one.

        Raises:
            RequestError: the call is refused, or cannot be answered; nothing was sent.
        """
        self.calls += 1
        try:
            return await self._answer(scope, receive, send, form, refusal)
        finally:
            self.calls -= 1

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, form: Form | None, refusal: RequestError | None
    ) -> tuple[int, str | None]:
        arrival = time.monotonic()
        headers = request_headers(scope)
        async with self._bodies.read(receive, headers) as body:
            payload = await self._bodies.parse(body, headers.get("content-type"))
            gone = asyncio.ensure_future(disconnected(receive))
            try:
                if refusal:
                    raise refusal
                if form:
                    check_form(payload, form)
                invocation = self._read(payload, body, headers, arrival, gone)
                body.clear()
                # A caller that does not read blocks the sending of its answer, and would keep its turn.
                remaining_s = invocation.until + _LAST_S - time.monotonic()
                abort_timer = asyncio.get_running_loop().call_later(remaining_s, self.abort, scope)
                try:
                    async with self._turn(invocation) as turn:
                        status, turn.error_code = await self._responses.send(invocation, turn.engine, send)
                        return status, turn.error_code
                except GoneError:
                    return _CALLER_LEFT, "slow_reader" if time.monotonic() > invocation.until else None
                finally:
                    abort_timer.cancel()
            except RequestError as error:
                error.form = request_form(payload)
                raise
            except Exception:
                traceback.print_exc()
                failure = RequestError(500, "internal_error", "the gateway could not answer this call")
                failure.form = request_form(payload)
                raise failure from None
            finally:
                gone.cancel()

    def _read(
        self,
        payload: object,
        body: bytearray,
        headers: dict[str, str],
        arrival: float,
        gone: asyncio.Future[None],
    ) -> Invocation:
        request = parse_request(payload, max_prompts=self._settings.max_prompts)
        if len(body) > self._usable_bytes and not truncates(
            request.parameters.truncate, self._settings.shapes
        ):
            raise RequestError(
                413,
                "body_too_large",
                f"the body is larger than {self._usable_bytes:,} bytes, the most that this model's shapes "
                "can use; send a shorter text, several calls, or 'truncate'",
            )
        check_size(request, self._settings.shapes, self._longest_token)
        fields = cast("dict[str, Any]", payload)  # parse_request accepts nothing else
        if len(body) > _SMALL_BODY:
            fields = drop_ignored_values(fields, request)
            json_body = encode_json(fields)
        else:
            json_body = bytes(body)
        until = arrival + self._settings.limit_s(stream=request.stream) + GATEWAY_GRACE_S
        return Invocation(request, fields, json_body, headers, arrival, until, gone)

    @contextlib.asynccontextmanager
    async def _turn(self, invocation: Invocation) -> AsyncIterator[_Turn]:
        """Admit a call or refuse it, then wait for its turn with an engine."""
        router, texts = self.router, invocation.request.texts
        prompts = prompts_of(invocation.request)
        router.crashes.check(prompts)
        batches = router.admission.texts / router.rows
        retry_after_s = math.ceil(min(batches * self._seconds_per_call, self._settings.deadline_s))
        router.admission.admit(texts, retry_after_s=retry_after_s)
        try:
            engine = await self._wait_for_turn(invocation, prompts)
            turn, began = _Turn(engine), time.monotonic()
            try:
                yield turn
            except RequestError as error:
                turn.error_code = error.code
                raise
            finally:
                router.end_turn(engine, texts, prompts, failed=turn.error_code == "unavailable")
                self._seconds_per_call += 0.1 * (time.monotonic() - began - self._seconds_per_call)
        finally:
            router.admission.release(texts)

    async def _wait_for_turn(self, invocation: Invocation, prompts: Prompts) -> Engine:
        turn = self.router.wait_for_turn(invocation.request.texts, prompts)
        try:
            if await invocation.wait_for(turn, invocation.arrival + self._settings.deadline_s):
                return turn.result()
        finally:
            if not turn.done():
                self.router.leave(turn)
        raise GoneError if invocation.gone.done() else queue_timeout()


@dataclass
class _Turn:
    """A call's turn with an engine.

    Attributes:
        engine: The engine.
        error_code: The code of the error that the call ended with, if any.
    """

    engine: Engine
    error_code: str | None = None
