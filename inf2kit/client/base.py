"""What ``Endpoint`` and ``AsyncEndpoint``, and their streams, share: everything that sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from inf2kit.client.answers import TextReader
from inf2kit.client.options import Retry
from inf2kit.client.results import TextResult
from inf2kit.client.target import Target
from inf2kit.errors import EndpointError

#: What is done with a call that is expected to take too long for a whole answer.
Long = Literal["refuse", "stream"]

_Endpoint = TypeVar("_Endpoint", bound="EndpointBase")


class EndpointBase:
    """An endpoint, and the options of its calls."""

    _target: Target
    _calls: Any

    @property
    def name(self) -> str:
        """The EndpointName."""
        return self._target.name

    @property
    def is_local(self) -> bool:
        """Whether calls go to this machine."""
        return self._target.is_local

    def __repr__(self) -> str:
        """Return the name, and where calls go."""
        return f"<{type(self).__name__} {self._target}>"

    def with_options(
        self: _Endpoint,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        deadline: float | None = None,
        idempotent: bool | None = None,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> _Endpoint:
        """Return the same endpoint with other options; those left out stay as they are.

            fast = llama.with_options(timeout=20, max_retries=0)

        Args:
            timeout: Seconds that one attempt may take. The default is 70 for a whole answer and 480 for a
                stream.
            max_retries: How often a call may be repeated; 2 by default.
            deadline: Seconds for the whole call, with its repetitions and waits.
            idempotent: Repeat the call also after a timeout or a broken connection. The text may then be
                generated, and paid for, more than once.
            on_retry: Called before each repetition.

        Raises:
            EndpointError: a value is out of range.
        """
        copy = type(self).__new__(type(self))
        copy._target = self._target
        copy._calls = self._calls.with_options(
            self._calls.options.changed(
                timeout=timeout,
                max_retries=max_retries,
                deadline=deadline,
                idempotent=idempotent,
                on_retry=on_retry,
            )
        )
        return copy


class StreamBase:
    """A streamed text, as far as it came.

    Args:
        endpoint: The endpoint's name.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._reader = TextReader(endpoint)
        self._result: TextResult | None = None

    def __repr__(self) -> str:
        """Return the endpoint, and how far the text came."""
        state = "at its end" if self._result else f"{len(self.text)} characters so far"
        return f"<{type(self).__name__} of {self._endpoint!r}: {state}>"

    @property
    def text(self) -> str:
        """The text so far."""
        return self._reader.text

    @property
    def result(self) -> TextResult:
        """The result, once the stream was read to its end.

        Raises:
            EndpointError: it was not.
        """
        if self._result is None:
            raise EndpointError(
                f"the stream of endpoint {self._endpoint!r} has no result yet: read it to its end first, or "
                "call read()"
            )
        return self._result
