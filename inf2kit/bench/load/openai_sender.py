"""Calls by OpenAI's route of SageMaker, as OpenAI's own client makes them: chat completions and a bearer "
"token."""

from __future__ import annotations

import json
from typing import Any

import httpx

from inf2kit.bench.load.plan import Request
from inf2kit.bench.load.senders import OnPiece, Sender
from inf2kit.client import failures
from inf2kit.client.answers import Reply, TextReader, read_reply
from inf2kit.client.async_endpoint import AsyncEndpoint
from inf2kit.client.options import CONNECT_TIMEOUT_S, STREAM_TIMEOUT_S, WHOLE_TIMEOUT_S
from inf2kit.client.results import TextResult

_ID = "x-amzn-requestid"


class OpenAISender(Sender):
    """OpenAI's route, by httpx. A prompt is sent as the only message of a chat.

    Args:
        endpoint: The endpoint.
        streamed: Whether answers are streamed.
        timeout_s: Seconds without a byte; None for the client's own limits.
    """

    def __init__(self, endpoint: AsyncEndpoint, *, streamed: bool, timeout_s: float | None) -> None:
        self._name, self._streamed = endpoint.name, streamed
        arguments = endpoint.openai()
        self._token = arguments["api_key"]
        self._limit_s = timeout_s or (STREAM_TIMEOUT_S if streamed else WHOLE_TIMEOUT_S)
        self._client = httpx.AsyncClient(
            base_url=arguments["base_url"],
            timeout=httpx.Timeout(timeout_s or WHOLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None),
            trust_env=not endpoint.is_local,
        )

    async def send(self, request: Request, on_piece: OnPiece) -> TextResult:
        """Make a call, and return its result."""
        messages = request.messages or ({"role": "user", "content": request.prompt},)
        body: dict[str, Any] = {"model": self._name, "messages": list(messages), **request.parameters}
        if "max_new_tokens" in body:
            body["max_tokens"] = body.pop("max_new_tokens")
        if self._streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {await self._token()}", "Content-Type": "application/json"}
        content = json.dumps(body).encode()
        try:
            async with self._client.stream(
                "POST", "chat/completions", content=content, headers=headers
            ) as response:
                if response.status_code != 200:
                    body_of_error = _unwrap(await response.aread())
                    refusal = failures.Refusal.from_http(
                        response.status_code, response.headers, body_of_error
                    )
                    raise refusal.to_error(self._name)
                return await self._read(response, on_piece)
        except httpx.TimeoutException:
            raise failures.timed_out(self._name, self._limit_s, None) from None
        except httpx.ConnectError as error:
            raise failures.unreachable(self._name, str(error)) from None
        except httpx.HTTPError as error:
            raise failures.interrupted(self._name, str(error) or type(error).__name__, None) from None

    async def _read(self, response: httpx.Response, on_piece: OnPiece) -> TextResult:
        request_id = response.headers.get(_ID)
        if not self._streamed:
            reply = Reply(await response.aread(), response.headers.get("content-type"), request_id)
            return read_reply(self._name, reply, chat=True)[0]
        reader = TextReader(self._name, request_id)
        async for part in response.aiter_raw():
            for _ in reader.feed(part):
                on_piece()
        for _ in reader.end():
            on_piece()
        return reader.finished()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _unwrap(content: bytes) -> bytes:
    """Return what an error's body of OpenAI's form has in it; another body as it is."""
    try:
        return json.dumps(json.loads(content)["error"]).encode()
    except (ValueError, TypeError, KeyError):
        return content
