"""One call at the gateway, by SageMaker's route or by one of OpenAI's: read, validated, admitted, answered.

Every call ends by its deadline plus a grace, whatever the engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from inf2kit.errors import RequestError
from inf2kit.serving.asgi import Receive, Scope, Send, disconnected, request_headers
from inf2kit.serving.engine.admission import Admission, queue_timeout
from inf2kit.serving.engine.limits import check_size, max_body_bytes, truncates
from inf2kit.serving.engine.protocol import GATEWAY_GRACE_S
from inf2kit.serving.gateway.bodies import MAX_BODY, Bodies
from inf2kit.serving.gateway.crashes import Crashes
from inf2kit.serving.gateway.model_server import ModelServer
from inf2kit.serving.gateway.responses import GoneError, Invocation, Responses
from inf2kit.serving.settings import Settings
from inf2kit.serving.wire import (
    Form,
    GenerateRequest,
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

    Attributes:
        admission: Counts the texts of admitted calls.
        crashes: Remembers the prompts that were in progress when the engine ended.
        calls: Number of calls that are not answered yet, including those whose body is still coming.
        closing: Whether connections are closed after their answer.
        headers: Headers of every answer.
        abort: Closes the connection of a request whose caller does not read.
    """

    def __init__(self, settings: Settings, model_server: ModelServer) -> None:
        self._settings = settings
        self.admission = Admission(settings.max_prompts)
        self.crashes = Crashes()
        self.calls = 0
        self.abort: Callable[[Scope], None] = lambda _: None
        self.closing = False
        self.headers: dict[str, str] = {}
        self._responses = Responses(settings, model_server, self.headers)
        self._bodies = Bodies()
        self._longest_token = 0
        self._usable_bytes = MAX_BODY
        # Streams and whole answers share it, so that neither overtakes the other.
        self._turns = asyncio.Semaphore(max(settings.model_server_workers, 1))
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
                    with self._remember(invocation.request) as outcome:
                        async with self._turn(invocation):
                            status, outcome.code = await self._responses.send(invocation, send)
                            return status, outcome.code
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

    @contextlib.contextmanager
    def _remember(self, request: GenerateRequest) -> Iterator[_Outcome]:
        """Remember a call's prompts while it is in progress, in case the engine ends."""
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
    async def _turn(self, invocation: Invocation) -> AsyncIterator[None]:
        """Admit a call or refuse it, then wait for its turn."""
        texts = invocation.request.texts
        batches = self.admission.texts / self._settings.shapes.batch_size
        retry_after_s = math.ceil(min(batches * self._seconds_per_call, self._settings.deadline_s))
        self.admission.admit(texts, retry_after_s=retry_after_s)
        try:
            turn = asyncio.ensure_future(self._turns.acquire())
            if not await invocation.wait_for(turn, invocation.arrival + self._settings.deadline_s):
                turn.cancel()
                raise GoneError if invocation.gone.done() else queue_timeout()
            began = time.monotonic()
            try:
                yield
            finally:
                self._turns.release()
                self._seconds_per_call += 0.1 * (time.monotonic() - began - self._seconds_per_call)
        finally:
            self.admission.release(texts)


@dataclass
class _Outcome:
    """The code of the error that a call ended with, if any."""

    code: str | None = None
