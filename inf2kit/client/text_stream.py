"""A streamed text, as callers of ``Endpoint`` see it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from types import TracebackType

from inf2kit.client.answers import TextReader
from inf2kit.client.base import StreamBase
from inf2kit.client.boto_transport import OpenStream
from inf2kit.client.results import TextResult, Timings
from inf2kit.client.retry import Attempts
from inf2kit.errors import EndpointError


class TextStream(StreamBase):
    """The pieces of a text as they come. The call is made when the first one is asked for.

        with llama.stream("Once upon a time") as stream:
            for text in stream:
                print(text, end="")
            print(stream.result.finish_reason)

    Leaving the ``with`` block, or ``close()``, closes the connection, and the endpoint frees the row at once.
    A stream belongs to one thread at a time.

    Args:
        endpoint: The endpoint's name.
        start: Makes the call, and returns its attempts and the bytes of its answer.
    """

    def __init__(self, endpoint: str, start: Callable[[], tuple[Attempts, OpenStream]]) -> None:
        super().__init__(endpoint)
        self._start = start
        self._pieces = self._receive()

    def __iter__(self) -> Iterator[str]:
        """Return the stream itself, which yields each piece once."""
        return self

    def __next__(self) -> str:
        """Return the next piece, which is never empty.

        Raises:
            EndpointError: the call was refused, or the answer broke off or took too long.
        """
        return next(self._pieces)

    def __enter__(self) -> TextStream:
        """Return the stream, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream."""
        self.close()

    def read(self) -> TextResult:
        """Read the rest of the stream, and return the result.

        Raises:
            EndpointError: as for reading piece by piece.
        """
        for _ in self:
            pass
        return self.result

    def close(self) -> None:
        """End the call. A stream that was read to its end is closed already."""
        self._pieces.close()

    def _receive(self) -> Generator[str, None, None]:
        attempts, stream = self._start()
        try:
            self._reader = reader = TextReader(self._endpoint, stream.request_id)
            first_text_s = None
            for part in stream:
                pieces = reader.feed(part)
                if pieces and first_text_s is None:
                    first_text_s = attempts.elapsed_s
                yield from pieces
            yield from reader.end()
            self._result = finish(reader.finished(), attempts, first_text_s)
        except EndpointError as error:
            error.attempts = attempts.number
            raise
        finally:
            stream.close()


def finish(result: TextResult, attempts: Attempts, first_text_s: float | None) -> TextResult:
    """Add attempts and timings to the result of a stream that was read to its end."""
    attempts.succeeded()
    timings = Timings(attempts.elapsed_s, first_text_s, attempts.waited_s)
    return replace(result, attempts=attempts.number, timings=timings)
