"""SageMaker's route for OpenAI's clients: ``POST /endpoints/NAME/openai/v1/chat/completions``.

AWS has no other route of OpenAI's. Requests have a bearer token in place of a signature, the body goes to the
container's ``/v1/chat/completions`` as it is, and a stream comes back as plain server-sent events. Errors
have OpenAI's form. docs/wire.md says which parts AWS does not document, so that they are assumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import unquote

import httpx

from inf2kit.rehearsal.runtime.bearer import TokenCheck
from inf2kit.rehearsal.runtime.containers import (
    STREAM_LIMIT_S,
    TOO_LONG,
    Call,
    CallerLeftError,
    Containers,
    StreamBrokenError,
    Target,
    check_target,
)
from inf2kit.rehearsal.runtime.errors import (
    COMPONENT,
    HEADER_PREFIX,
    RuntimeAPIError,
    refused_parameter,
    timeout_error,
)
from inf2kit.rehearsal.runtime.messages import new_request_id, read_body, response_headers
from inf2kit.serving.asgi import Receive, Scope, Send, answer, disconnected, head, request_headers

#: Every path below an endpoint's ``openai/``, of its inference components too.
_PATH = re.compile(r"/endpoints/([^/]+)(?:/inference-components/([^/]+))?/openai(/.*)?")
_CHAT = "/v1/chat/completions"
#: OpenAI's type and code for each kind of error.
_TYPES = {
    "AccessDeniedException": ("invalid_request_error", "access_denied"),
    "ModelError": ("server_error", "model_error"),
    "RequestEntityTooLargeException": ("invalid_request_error", "request_too_large"),
    "ServiceUnavailable": ("server_error", "service_unavailable"),
    "UnknownOperationException": ("invalid_request_error", "unknown_operation"),
    "ValidationError": ("invalid_request_error", "validation_error"),
}


def is_openai_route(path: str) -> bool:
    """Whether a path is below an endpoint's ``openai/``."""
    return _PATH.fullmatch(path) is not None


class OpenAIRoute:
    """An ASGI application for the paths below an endpoint's ``openai/``.

    Args:
        find_target: Returns the container that takes the next call of an endpoint; None if there is no such
            endpoint.
        containers: Sends the calls.
        account: The account of the endpoints, for messages.
        tokens: Checks bearer tokens.
    """

    def __init__(
        self,
        find_target: Callable[[str, str], Target | None],
        containers: Containers,
        account: str,
        tokens: TokenCheck,
    ) -> None:
        self._find_target, self._containers = find_target, containers
        self._account, self._tokens = account, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._invoke(scope, receive, send)
        except RuntimeAPIError as error:
            kind, code = _TYPES[error.kind]
            body = {"error": {"message": str(error), "type": kind, "code": code}}
            headers = {"content-type": "application/json", **new_request_id()}
            await answer(send, error.status, json.dumps(body).encode(), headers)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = request_headers(scope)
        # Read before anything is refused: a client that still sends would not read the refusal.
        body = await read_body(receive)
        if refusal := self._tokens.refusal(headers.get("authorization")):
            raise RuntimeAPIError(
                403,
                "AccessDeniedException",
                f"The request is not authorized: {refusal}. In this rehearsal, {self._tokens.advice}.",
            )
        match = _PATH.fullmatch(scope["path"])
        if match is None or scope["method"] != "POST" or match[3] != _CHAT:
            raise RuntimeAPIError(
                404,
                "UnknownOperationException",
                f"no operation at {scope['method']} {scope['path']}; there is "
                f"POST /endpoints/NAME/openai{_CHAT}",
            )
        name = unquote(match[1])
        target = check_target(name, self._find_target(name, ""), self._account)
        if match[2] is not None or HEADER_PREFIX + COMPONENT in headers:
            raise refused_parameter(COMPONENT, name)
        call = Call(target, _CHAT, body, _container_headers(headers))
        with self._containers.running(name, call):
            await self._pass(name, call, receive, send)

    async def _pass(self, name: str, call: Call, receive: Receive, send: Send) -> None:
        """Answer with the container's response: a stream as it comes, anything else as a whole."""
        began = asyncio.get_running_loop().time()
        caller_left = asyncio.ensure_future(disconnected(receive))
        try:
            with self._containers.timed(call), contextlib.suppress(CallerLeftError):
                async with contextlib.aclosing(await self._containers.open(call, caller_left)) as response:
                    is_stream = _is_stream(response)
                    ends = began + (STREAM_LIMIT_S if is_stream else self._containers.call_limit_s)
                    parts = self._containers.parts(call, response, caller_left, ends)
                    headers = response_headers(call.target, response)
                    if is_stream:
                        await _stream(parts, headers, send)
                        return
                    body = await _join(parts)
                    if response.status_code != 200:
                        raise self._model_error(name, call.target, response.status_code, body)
                    await answer(send, 200, body, headers)
        finally:
            caller_left.cancel()

    def _model_error(self, name: str, target: Target, status: int, body: bytes) -> RuntimeAPIError:
        """The container answered with another status than 200.

        AWS answers a container's 4xx, 429 too, with a 400. Its answer to a 5xx is not known; here it is the
        424 of InvokeEndpoint, which OpenAI's client does not repeat either.
        """
        side = "client" if status < 500 else "server"
        region = self._tokens.region
        text = body.decode("utf-8", "replace")
        log = f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        return RuntimeAPIError(
            400 if status < 500 else 424,
            "ModelError",
            f'Received {side} error ({status}) from {target.variant} with message "{text}". '
            f"See {log}#logEventViewer:group=/aws/sagemaker/Endpoints/{name} in account {self._account} for "
            "more information.",
        )


def _container_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The only headers of a caller that reach the container; the token does not."""
    return {
        "content-type": headers.get("content-type", "application/json"),
        "accept": headers.get("accept", "*/*"),
    }


def _is_stream(response: httpx.Response) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return response.status_code == 200 and content_type.partition(";")[0].strip() == "text/event-stream"


async def _stream(parts: AsyncIterator[bytes], headers: Mapping[str, str], send: Send) -> None:
    """Send a stream part by part.

    No error of AWS's is known for a stream that breaks off. Here the connection closes without an end, which
    clients notice.
    """
    await send(head(200, headers))
    with contextlib.suppress(StreamBrokenError):
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _join(parts: AsyncIterator[bytes]) -> bytes:
    """Return a whole body.

    Raises:
        RuntimeAPIError: it ended early.
    """
    try:
        return b"".join([part async for part in parts])
    except StreamBrokenError as error:
        if error.code == TOO_LONG:
            raise timeout_error() from None
        raise RuntimeAPIError(503, "ServiceUnavailable", str(error)) from None
