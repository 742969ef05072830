"""Making calls and repeating them: the core's decisions, httpcore's transport, the event loop's sleep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from inf2kit.client.answers import Reply
from inf2kit.client.async_text_stream import AsyncTextStream
from inf2kit.client.calls import read_results
from inf2kit.client.httpcore_transport import AsyncOpenStream, HttpcoreTransport
from inf2kit.client.options import CallOptions
from inf2kit.client.requests import Call
from inf2kit.client.results import TextResult
from inf2kit.client.retry import Attempts, BackOff, RetryBudget
from inf2kit.errors import EndpointError

_Answer = TypeVar("_Answer", Reply, AsyncOpenStream)


class AsyncCalls:
    """The calls of one endpoint with one set of options.

    Args:
        endpoint: The EndpointName.
        transport: How calls are sent.
        options: How calls are made.
        budget: The repetitions that all calls of the endpoint share.
    """

    def __init__(
        self, endpoint: str, transport: HttpcoreTransport, options: CallOptions, budget: RetryBudget
    ) -> None:
        self._endpoint, self._budget = endpoint, budget
        self.transport, self.options = transport, options

    def with_options(self, options: CallOptions) -> AsyncCalls:
        """Return the same calls with other options."""
        return AsyncCalls(self._endpoint, self.transport, options, self._budget)

    async def whole(self, call: Call, back_off: BackOff | None = None) -> list[TextResult]:
        """Make a call, and return its results.

        Raises:
            EndpointError: as ``inf2kit.errors`` describes.
        """
        attempts = Attempts(self.options, self._budget, back_off)
        read_s = self.options.read_s(stream=False)
        reply = await _repeat(
            attempts, lambda limit_s: self.transport.invoke(call, limit_s, read_s), stream=False
        )
        return read_results(self._endpoint, call, reply, attempts)

    async def one(self, call: Call) -> TextResult:
        """Make a call that has one result, and return it.

        Raises:
            EndpointError: as ``inf2kit.errors`` describes.
        """
        return (await self.whole(call))[0]

    def stream(self, call: Call, back_off: BackOff | None = None) -> AsyncTextStream:
        """Return the stream of a call, which is made when its first piece is asked for."""
        return AsyncTextStream(self._endpoint, lambda: self.open_stream(call, back_off))

    async def open_stream(
        self, call: Call, back_off: BackOff | None = None
    ) -> tuple[Attempts, AsyncOpenStream]:
        """Make a call, and return its attempts and the bytes of its streamed answer.

        Raises:
            EndpointError: as ``inf2kit.errors`` describes.
        """
        attempts = Attempts(self.options, self._budget, back_off)
        read_s = self.options.read_s(stream=True)
        stream = await _repeat(
            attempts, lambda limit_s: self.transport.open_stream(call, limit_s, read_s), stream=True
        )
        return attempts, stream


async def _repeat(
    attempts: Attempts, send: Callable[[float], Awaitable[_Answer]], *, stream: bool
) -> _Answer:
    """Send until there is an answer, or an error that is not to be repeated."""
    while True:
        while hold_s := attempts.hold_s():
            await anyio.sleep(hold_s)
        try:
            return await send(attempts.start(stream=stream))
        except EndpointError as error:
            wait_s = attempts.wait_after(error)
        await anyio.sleep(wait_s)
