"""SageMaker's runtime API as an ASGI application, which passes calls on to the endpoints' containers.

It has the limits of AWS: 60 s for a call, 25 MB for a request body, and only the headers that AWS passes on.
Signatures are not checked, but the bearer tokens of OpenAI's clients are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import httpx

from inf2kit.rehearsal.runtime import event_stream
from inf2kit.rehearsal.runtime.bearer import LOCAL_TOKENS, TokenCheck
from inf2kit.rehearsal.runtime.containers import (
    CALL_LIMIT_S,
    STREAM_LIMIT_S,
    Call,
    CallerLeftError,
    Containers,
    Outcome,
    StreamBrokenError,
    Target,
    check_target,
)
from inf2kit.rehearsal.runtime.errors import (
    HEADER_PREFIX,
    NO_ACCOUNT,
    RuntimeAPIError,
    check_parameters,
    model_error,
)
from inf2kit.rehearsal.runtime.messages import ATTRIBUTES, new_request_id, read_body, response_headers
from inf2kit.rehearsal.runtime.openai_route import OpenAIRoute, is_openai_route
from inf2kit.serving.asgi import Receive, Scope, Send, answer, disconnected, head, request_headers

_ROUTE = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")


class SageMakerRuntime:
    """An ASGI application for InvokeEndpoint, InvokeEndpointWithResponseStream and OpenAI's clients.

    Args:
        find_target: Returns the container that takes the next call, given the endpoint's name and the variant
            that the caller asks for (empty for any); None if there is no such endpoint.
        account: The account of the endpoints, for messages.
        tokens: Checks the bearer tokens of OpenAI's clients; by default as for local endpoints.
        call_limit_s: Seconds a call may take.
        observe: Called with the endpoint's name, the container and the outcome after every call that reached
            a container, unless its caller left before the answer.
    """

    def __init__(
        self,
        find_target: Callable[[str, str], Target | None],
        *,
        account: str = NO_ACCOUNT,
        tokens: TokenCheck = LOCAL_TOKENS,
        call_limit_s: float = CALL_LIMIT_S,
        observe: Callable[[str, Target, Outcome], None] = lambda _name, _target, _outcome: None,
    ) -> None:
        self._find_target, self._account = find_target, account
        self._containers = Containers(call_limit_s, observe)
        self._openai = OpenAIRoute(find_target, self._containers, account, tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if is_openai_route(scope["path"]):
            await self._openai(scope, receive, send)
            return
        try:
            await self._invoke(scope, receive, send)
        except RuntimeAPIError as error:
            headers = {"content-type": "application/json", "x-amzn-errortype": error.kind, **new_request_id()}
            await answer(send, error.status, json.dumps(error.body).encode(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"])
        if scope["method"] != "POST" or route is None:
            raise RuntimeAPIError(404, "UnknownOperationException", f"no operation at {scope['path']}")
        body = await read_body(receive)
        name, is_streamed = unquote(route[1]), route[2] == "invocations-response-stream"
        headers = request_headers(scope)
        target = check_target(
            name, self._find_target(name, headers.get(f"{HEADER_PREFIX}target-variant", "")), self._account
        )
        operation = "InvokeEndpointWithResponseStream" if is_streamed else "InvokeEndpoint"
        check_parameters(operation, name, headers, target.variant)
        call = Call(target, "/invocations", body, _container_headers(headers, is_streamed=is_streamed))
        with self._containers.running(name, call):
            if is_streamed:
                await self._stream(call, receive, send)
            else:
                await self._respond(call, send)

    async def _respond(self, call: Call, send: Send) -> None:
        """Answer with the container's whole response."""
        with self._containers.timed(call):
            response = await self._containers.post(call)
        if response.status_code != 200:
            raise model_error(response)
        await answer(send, 200, response.content, response_headers(call.target, response))

    async def _stream(self, call: Call, receive: Receive, send: Send) -> None:
        """Answer with the container's response as an event stream, part by part."""
        ends = asyncio.get_running_loop().time() + STREAM_LIMIT_S
        caller_left = asyncio.ensure_future(disconnected(receive))
        try:
            with self._containers.timed(call), contextlib.suppress(CallerLeftError):
                async with contextlib.aclosing(await self._containers.open(call, caller_left)) as response:
                    await self._pass_stream(call, response, caller_left, ends, send)
        finally:
            caller_left.cancel()

    async def _pass_stream(
        self,
        call: Call,
        response: httpx.Response,
        caller_left: asyncio.Future[None],
        ends: float,
        send: Send,
    ) -> None:
        if response.status_code != 200:
            await response.aread()
            raise model_error(response)
        headers = response_headers(call.target, response)
        headers["x-amzn-sagemaker-content-type"] = headers.pop("content-type", "application/octet-stream")
        headers["content-type"] = event_stream.CONTENT_TYPE
        await send(head(200, headers))
        try:
            async for part in self._containers.parts(call, response, caller_left, ends):
                frame = event_stream.encode_payload_part(part)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        except StreamBrokenError as error:
            frame = event_stream.encode_model_stream_error(str(error), error.code)
            await send({"type": "http.response.body", "body": frame})
            return
        await send({"type": "http.response.body", "body": b""})


def _container_headers(headers: Mapping[str, str], *, is_streamed: bool) -> dict[str, str]:
    """The only headers of a caller that reach the container."""
    accept = f"{HEADER_PREFIX}accept" if is_streamed else "accept"
    passed = {
        "content-type": headers.get("content-type", "application/json"),
        "accept": headers.get(accept, "*/*"),
    }
    if ATTRIBUTES in headers:
        passed[ATTRIBUTES] = headers[ATTRIBUTES]
    return passed
