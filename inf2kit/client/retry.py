"""Whether and when a call is repeated. It knows no transport: it neither sends nor sleeps.

A repeated call is a second generation, which is paid for and takes a row. So a call is repeated by itself
only where nothing can have been generated: no connection, a throttle, a full queue, a model not ready.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from inf2kit.client.options import CallOptions, Retry
from inf2kit.errors import (
    EndpointBusyError,
    EndpointConnectionError,
    EndpointError,
    EndpointInterruptedError,
    EndpointTimeoutError,
)

#: Seconds before the first repetition; each further one waits twice as long, up to the longest wait.
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
#: The longest wait that an endpoint may ask for; a longer one is left to the caller.
_LONGEST_ASKED_S = 120
#: Part of a wait that is random, so that callers do not come back together.
_JITTER = 0.5
_SAFE = (EndpointBusyError, EndpointConnectionError)
_PAID = (EndpointTimeoutError, EndpointInterruptedError)


class RetryBudget:
    """How many repetitions the calls of one endpoint share. Threads may share it.

    An endpoint that is down would otherwise be called three times as often as usual. A repetition takes a
    token. A call that succeeds gives one back if it was repeated, else a tenth.

    Args:
        capacity: Number of tokens, all there at the beginning.
    """

    def __init__(self, capacity: float = 100.0) -> None:
        self._capacity = self._tokens = capacity
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token; False if there is none."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def give_back(self, *, repeated: bool) -> None:
        """Give back what a successful call does."""
        with self._lock:
            self._tokens = min(self._tokens + (1.0 if repeated else 0.1), self._capacity)


class BackOff:
    """A pause that callers share: what refuses one of them would refuse the others. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Hold every caller for at least this long from now."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)

    def delay(self) -> float:
        """Seconds that a caller must wait before it calls."""
        return max(self._until - self._clock(), 0.0)


class Attempts:
    """The attempts of one call.

    Args:
        options: How the call is made.
        budget: What all calls of an endpoint share.
        back_off: The pause that the callers of a batch share, if any.
        clock: Seconds that only grow.

    Attributes:
        number: Number of attempts so far.
        waited_s: Seconds of waits so far.
    """

    def __init__(
        self,
        options: CallOptions,
        budget: RetryBudget,
        back_off: BackOff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._budget, self._back_off, self._clock = options, budget, back_off, clock
        self._began = clock()
        self.number = 0
        self.waited_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._began

    def start(self, *, stream: bool) -> float:
        """Count an attempt, and return the seconds that it may take."""
        self.number += 1
        limit_s = self._options.attempt_s(stream=stream)
        if self._options.deadline is not None:
            limit_s = min(limit_s, max(self._options.deadline - self.elapsed_s, 0.001))
        return limit_s

    def hold_s(self) -> float:
        """Seconds that the callers of a batch hold together before this attempt; each a little longer.

        Raises:
            EndpointBusyError: the call's deadline is before that.
        """
        delay_s = self._back_off.delay() if self._back_off else 0.0
        if not delay_s:
            return 0.0
        deadline = self._options.deadline
        if deadline is not None and self.elapsed_s + delay_s >= deadline:
            error = EndpointBusyError(
                f"the endpoint is full or throttled, and asks for {delay_s:.1f} s, more than this call's "
                "deadline leaves; it was not sent again"
            )
            error.attempts = self.number
            raise error
        jitter = random.random() * _JITTER  # noqa: S311 - it spreads callers and protects nothing
        return delay_s * (1 + jitter / 2)

    def wait_after(self, error: EndpointError) -> float:
        """Return the seconds to wait before the call is repeated.

        Raises:
            EndpointError: ``error`` itself, with the number of attempts, if the call is not repeated.
        """
        error.attempts = self.number
        wait_s = self._wait_s(error)
        if self._back_off and isinstance(error, EndpointBusyError):
            self._back_off.hold(wait_s)
        options = self._options
        is_allowed = (
            isinstance(error, _SAFE + (_PAID if options.idempotent else ()))
            and self.number <= options.max_retries
            and (error.retry_after_s or 0) <= _LONGEST_ASKED_S
            and (options.deadline is None or self.elapsed_s + wait_s < options.deadline)
            and self._budget.take()
        )
        if not is_allowed:
            raise error
        if options.on_retry is not None:
            options.on_retry(Retry(self.number, wait_s, error))
        self.waited_s += wait_s
        return wait_s

    def succeeded(self) -> None:
        """Count a success for the budget."""
        self._budget.give_back(repeated=self.number > 1)

    def _wait_s(self, error: EndpointError) -> float:
        wait_s: float = min(FIRST_WAIT_S * 2 ** (self.number - 1), LONGEST_WAIT_S)
        jitter = random.random() * _JITTER  # noqa: S311 - it spreads callers and protects nothing
        if error.retry_after_s:
            # Never earlier than asked for.
            return max(error.retry_after_s, wait_s) * (1 + jitter / 2)
        return wait_s * (1 - jitter)
