"""A streamed text, as callers of ``AsyncEndpoint`` see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType

from inf2kit.client.answers import TextReader
from inf2kit.client.base import StreamBase
from inf2kit.client.httpcore_transport import AsyncOpenStream
from inf2kit.client.results import TextResult
from inf2kit.client.retry import Attempts
from inf2kit.client.text_stream import finish
from inf2kit.errors import EndpointError


class AsyncTextStream(StreamBase):
    """The pieces of a text as they come. The call is made when the first one is asked for.

        async with llama.stream("Once upon a time") as stream:
            async for text in stream:
                print(text, end="")
            print(stream.result.finish_reason)

    Leaving the ``async with`` block, or ``aclose()``, closes the connection, and the endpoint frees the row
    at once. So does cancelling the task that reads. A stream belongs to one task at a time.

    Args:
        endpoint: The endpoint's name.
        start: Makes the call, and returns its attempts and the bytes of its answer.
    """

    def __init__(
        self, endpoint: str, start: Callable[[], Awaitable[tuple[Attempts, AsyncOpenStream]]]
    ) -> None:
        super().__init__(endpoint)
        self._start = start
        self._pieces = self._receive()

    def __aiter__(self) -> AsyncIterator[str]:
        """Return the stream itself, which yields each piece once."""
        return self

    async def __anext__(self) -> str:
        """Return the next piece, which is never empty.

        Raises:
            EndpointError: the call was refused, or the answer broke off or took too long.
        """
        return await anext(self._pieces)

    async def __aenter__(self) -> AsyncTextStream:
        """Return the stream, which is closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream."""
        await self.aclose()

    async def read(self) -> TextResult:
        """Read the rest of the stream, and return the result.

        Raises:
            EndpointError: as for reading piece by piece.
        """
        async for _ in self:
            pass
        return self.result

    async def aclose(self) -> None:
        """End the call. A stream that was read to its end is closed already."""
        await self._pieces.aclose()

    async def _receive(self) -> AsyncGenerator[str, None]:
        attempts, stream = await self._start()
        try:
            self._reader = reader = TextReader(self._endpoint, stream.request_id)
            first_text_s = None
            async for part in stream:
                pieces = reader.feed(part)
                if pieces and first_text_s is None:
                    first_text_s = attempts.elapsed_s
                for piece in pieces:
                    yield piece
            for piece in reader.end():
                yield piece
            self._result = finish(reader.finished(), attempts, first_text_s)
        except EndpointError as error:
            error.attempts = attempts.number
            raise
        finally:
            await stream.close()
