"""How calls are made: how long they may take, and when they are repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inf2kit.errors import EndpointError

#: Seconds to connect.
CONNECT_TIMEOUT_S = 5.0
#: AWS answers a call within 60 s, and advises a socket timeout of 70 s.
WHOLE_TIMEOUT_S = 70.0
#: AWS ends a stream after 8 minutes.
STREAM_TIMEOUT_S = 480.0


@dataclass(frozen=True)
class Retry:
    """One repetition, for ``on_retry``, which is called before the wait.

    Attributes:
        attempt: The attempt that failed, from 1.
        wait_s: Seconds until the next one.
        error: Why it failed.
    """

    attempt: int
    wait_s: float
    error: EndpointError


@dataclass(frozen=True)
class CallOptions:
    """How a call is made.

    Attributes:
        timeout: Seconds that one attempt may take; by default 70, and 480 for a stream. A stream must also
            send something every 70 s.
        max_retries: How often a call may be repeated.
        deadline: Seconds for the whole call, with its repetitions and waits; no repetition begins after it.
            None is no limit.
        idempotent: Repeat the call also after a timeout or a broken connection. The text may then be
            generated, and paid for, more than once.
        on_retry: Called before each repetition.
    """

    timeout: float | None = None
    max_retries: int = 2
    deadline: float | None = None
    idempotent: bool = False
    on_retry: Callable[[Retry], None] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("timeout", "deadline"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise EndpointError(f"{name} is {value!r}; it must be seconds above 0, or None")
        if self.max_retries < 0:
            raise EndpointError(f"max_retries is {self.max_retries!r}; it must be 0 or more")

    def changed(self, **changes: Any) -> CallOptions:
        """Return options with these changes; None leaves a value as it is.

        Raises:
            EndpointError: a value is out of range.
        """
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def attempt_s(self, *, stream: bool) -> float:
        """Seconds that one attempt may take."""
        return self.timeout or (STREAM_TIMEOUT_S if stream else WHOLE_TIMEOUT_S)

    def read_s(self, *, stream: bool) -> float:
        """Seconds that may pass without a byte of the answer."""
        return min(self.attempt_s(stream=stream), WHOLE_TIMEOUT_S, self.deadline or WHOLE_TIMEOUT_S)
