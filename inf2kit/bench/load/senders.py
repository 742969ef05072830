"""How calls are sent: by the asynchronous client, by boto3 in threads, or as asynchronous jobs."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from inf2kit.bench.load.plan import Request
from inf2kit.bench.load.threads import run_in_thread
from inf2kit.client.async_endpoint import AsyncEndpoint
from inf2kit.client.endpoint import Endpoint
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointRequestError

#: Called when a piece of a streamed text has come.
OnPiece = Callable[[], None]


class Sender(abc.ABC):
    """Makes calls, each of them once: a failed attempt is a failed call."""

    @abc.abstractmethod
    async def send(self, request: Request, on_piece: OnPiece) -> TextResult:
        """Make a call, and return its result.

        Raises:
            EndpointError: it failed.
        """

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what is open."""


class AsyncSender(Sender):
    """``AsyncEndpoint``, which is httpcore on one event loop.

    Args:
        endpoint: The endpoint.
        streamed: Whether answers are streamed.
    """

    def __init__(self, endpoint: AsyncEndpoint, *, streamed: bool) -> None:
        self._endpoint, self._streamed = endpoint, streamed

    async def send(self, request: Request, on_piece: OnPiece) -> TextResult:
        """Make a call, and return its result."""
        parameters = dict(request.parameters)
        if not self._streamed:
            if request.prompt is not None:
                whole = self._endpoint.generate(request.prompt, allow_long=True, **parameters)
            else:
                whole = self._endpoint.chat(request.messages, **parameters)
            result: TextResult = await whole
            return result
        if request.prompt is not None:
            stream = self._endpoint.stream(request.prompt, **parameters)
        else:
            stream = self._endpoint.chat(request.messages, stream=True, **parameters)
        async with stream:
            async for _ in stream:
                on_piece()
            return stream.result

    async def aclose(self) -> None:
        """Close the connections."""
        await self._endpoint.aclose()


class BotoSender(Sender):
    """``Endpoint``, whose calls are boto3's, with a thread for each call.

    Args:
        endpoint: The endpoint.
        streamed: Whether answers are streamed.
    """

    def __init__(self, endpoint: Endpoint, *, streamed: bool) -> None:
        self._endpoint, self._streamed = endpoint, streamed

    async def send(self, request: Request, on_piece: OnPiece) -> TextResult:
        """Make a call in a thread, and return its result."""
        return await run_in_thread(self._call, request, on_piece)

    def _call(self, request: Request, on_piece: OnPiece) -> TextResult:
        parameters = dict(request.parameters)
        if not self._streamed:
            result: TextResult
            if request.prompt is not None:
                result = self._endpoint.generate(request.prompt, allow_long=True, **parameters)
            else:
                result = self._endpoint.chat(request.messages, **parameters)
            return result
        if request.prompt is not None:
            stream = self._endpoint.stream(request.prompt, **parameters)
        else:
            stream = self._endpoint.chat(request.messages, stream=True, **parameters)
        with stream:
            for _ in stream:
                on_piece()
            return stream.result


class JobSender(Sender):
    """Asynchronous calls: from submitting to finding the answer in S3, which is looked for now and then.

    Args:
        endpoint: The endpoint.
        timeout_s: Seconds to wait for an answer.
    """

    def __init__(self, endpoint: AsyncEndpoint, timeout_s: float) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s

    async def send(self, request: Request, on_piece: OnPiece) -> TextResult:  # noqa: ARG002
        """Submit a job, and return its result."""
        prompt: Any = request.prompt if request.prompt is not None else request.messages
        job = await self._endpoint.submit(prompt, **request.parameters)
        result = await job.result(timeout=self._timeout_s)
        if isinstance(result, list):
            raise EndpointRequestError("the job has several answers; send one prompt a call")
        return result

    async def aclose(self) -> None:
        """Close the connections."""
        await self._endpoint.aclose()
