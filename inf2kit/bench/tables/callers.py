"""The calls of a benchmark: to an endpoint, or to the engine in this process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from inf2kit.bench.tables.protocol import Cell, forced
from inf2kit.client.endpoint import Endpoint
from inf2kit.client.preflight import WHOLE_LIMIT_S
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError, EndpointRequestError

if TYPE_CHECKING:
    from inf2kit.offline import Model


class Caller(Protocol):
    """What is measured.

    Attributes:
        whole_limit_s: Seconds within which a whole answer must come; None for no limit.
    """

    whole_limit_s: float | None

    def count(self, text: str) -> int:
        """Return how many tokens a prompt has."""
        ...

    def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
        """Put the same prompt into every row, and return when all rows are at their end.

        Args:
            prompt: The text.
            rows: Number of rows.
            cell: The lengths.
            stream: Send a stream for each row, all at once, rather than one call with a list.

        Raises:
            Inf2KitError: it failed.
        """
        ...

    def round_trip_s(self) -> float | None:
        """Return the seconds of a call that does no work; None where there is no network."""
        ...


class EndpointCaller:
    """Calls of an endpoint, on AWS or on this machine, by boto3. None is repeated.

    Args:
        endpoint: The endpoint.
        engines: Number of its engines.
    """

    whole_limit_s: float | None = WHOLE_LIMIT_S

    def __init__(self, endpoint: Endpoint, engines: int = 1) -> None:
        self._endpoint, self._engines = endpoint.with_options(max_retries=0), engines

    def count(self, text: str) -> int:
        """Return the server's own count of a prompt's tokens."""
        return self._endpoint.generate(text, allow_long=True, max_new_tokens=1).input_tokens

    def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:
        """See ``Caller``."""
        if not stream:
            return self._endpoint.generate([prompt] * rows, allow_long=True, **forced(cell))
        # A list goes to one engine as a whole, but streams to all of them: each gets as many as it has rows.
        results = _at_once(lambda: self._endpoint.stream(prompt, **forced(cell)).read(), self._engines * rows)
        return results[:rows]

    def round_trip_s(self) -> float | None:
        """Return the seconds until the endpoint refuses a call: network, SageMaker and gateway, no model."""
        began = time.perf_counter()
        try:
            self._endpoint.generate("x", allow_long=True, max_new_tokens=0)
        except EndpointRequestError:
            return time.perf_counter() - began
        except EndpointError:
            return None
        return None


class ModelCaller:
    """Calls of a model in this process.

    Args:
        model: What ``inf2kit.load`` returned.
    """

    whole_limit_s: float | None = None

    def __init__(self, model: Model) -> None:
        self._model = model

    def count(self, text: str) -> int:
        """Return the engine's count of a prompt's tokens."""
        return self._model.generate(text, max_new_tokens=1).input_tokens

    def call(self, prompt: str, rows: int, cell: Cell, *, stream: bool) -> list[TextResult]:  # noqa: ARG002
        """See ``Caller``."""
        return self._model.generate([prompt] * rows, **forced(cell))

    def round_trip_s(self) -> float | None:
        """Return None: there is no network."""
        return None


def _at_once(call: Callable[[], TextResult], count: int) -> list[TextResult]:
    """Make the same call several times at once, and return all results when the last one is there.

    Raises:
        EndpointError: one of them failed. The others go on in their threads, which end with the process.
    """
    outcomes: queue.SimpleQueue[TextResult | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put(call())
        except BaseException as error:
            outcomes.put(error)

    for _ in range(count):
        threading.Thread(target=run, daemon=True).start()
    results: list[TextResult] = []
    while len(results) < count:
        outcome = outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
