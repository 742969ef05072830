"""Making calls and repeating them: the core's decisions, boto3's transport, this thread's sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from inf2kit.client.answers import Reply, read_reply
from inf2kit.client.boto_transport import BotoTransport, OpenStream
from inf2kit.client.options import CallOptions
from inf2kit.client.requests import Call
from inf2kit.client.results import TextResult, Timings
from inf2kit.client.retry import Attempts, BackOff, RetryBudget
from inf2kit.client.text_stream import TextStream
from inf2kit.errors import EndpointError

_Answer = TypeVar("_Answer", Reply, OpenStream)


class Calls:
    """The calls of one endpoint with one set of options. Threads may share it.

    Args:
        endpoint: The EndpointName.
        transport: Returns the transport whose reads wait for a number of seconds.
        options: How calls are made.
        budget: The repetitions that all calls of the endpoint share.
    """

    def __init__(
        self,
        endpoint: str,
        transport: Callable[[float], BotoTransport],
        options: CallOptions,
        budget: RetryBudget,
    ) -> None:
        self._endpoint, self._transport, self._budget = endpoint, transport, budget
        self.options = options

    def with_options(self, options: CallOptions) -> Calls:
        """Return the same calls with other options."""
        return Calls(self._endpoint, self._transport, options, self._budget)

    def whole(self, call: Call, back_off: BackOff | None = None) -> list[TextResult]:
        """Make a call, and return its results.

        Raises:
            EndpointError: as ``inf2kit.errors`` describes.
        """
        attempts = Attempts(self.options, self._budget, back_off)
        transport = self._transport(self.options.read_s(stream=False))
        reply = _repeat(attempts, lambda limit_s: transport.invoke(call, limit_s), stream=False)
        return read_results(self._endpoint, call, reply, attempts)

    def stream(self, call: Call, back_off: BackOff | None = None) -> TextStream:
        """Return the stream of a call, which is made when its first piece is asked for."""
        return TextStream(self._endpoint, lambda: self.open_stream(call, back_off))

    def open_stream(self, call: Call, back_off: BackOff | None = None) -> tuple[Attempts, OpenStream]:
        """Make a call, and return its attempts and the bytes of its streamed answer.

        Raises:
            EndpointError: as ``inf2kit.errors`` describes.
        """
        attempts = Attempts(self.options, self._budget, back_off)
        transport = self._transport(self.options.read_s(stream=True))
        stream = _repeat(attempts, lambda limit_s: transport.open_stream(call, limit_s), stream=True)
        return attempts, stream


def _repeat(attempts: Attempts, send: Callable[[float], _Answer], *, stream: bool) -> _Answer:
    """Send until there is an answer, or an error that is not to be repeated."""
    while True:
        while hold_s := attempts.hold_s():
            time.sleep(hold_s)
        try:
            return send(attempts.start(stream=stream))
        except EndpointError as error:
            wait_s = attempts.wait_after(error)
        time.sleep(wait_s)


def read_results(endpoint: str, call: Call, reply: Reply, attempts: Attempts) -> list[TextResult]:
    """Read a whole answer, and add request id, attempts and timings to its results.

    Raises:
        EndpointServerError: it is none of an endpoint of inf2kit.
    """
    try:
        results = read_reply(endpoint, reply, chat=call.chat)
    except EndpointError as error:
        error.attempts = attempts.number
        raise
    attempts.succeeded()
    timings = Timings(total_s=attempts.elapsed_s, waited_s=attempts.waited_s)
    return [
        replace(result, request_id=reply.request_id, attempts=attempts.number, timings=timings)
        for result in results
    ]
