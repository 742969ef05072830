"""The closed and the open loop: when calls are sent, and what is written down of them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from inf2kit.bench.load.metrics import percentile
from inf2kit.bench.load.plan import Request
from inf2kit.bench.load.samples import CANCELLED, Cell, ClientShare, Load, Sample, failure_kind
from inf2kit.bench.load.senders import Sender
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError

#: Seconds between two looks at the event loop's punctuality.
_LOOK_S = 0.02
#: Seconds that a caller waits after its first failure in a row, doubled with each further one, and at most.
_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
#: Failures in a row, without any answer, after which a cell is given up; for each caller.
_HOPELESS = 5


@dataclass(frozen=True)
class Until:
    """When a cell sends no more calls: after seconds, or after a number of calls."""

    seconds: float
    calls: int | None = None

    def is_over(self, elapsed_s: float, sent: int) -> bool:
        """Whether it is time."""
        return sent >= self.calls if self.calls is not None else elapsed_s > self.seconds


class CellRun:
    """One cell while it runs.

    Args:
        load: The load.
        until: When to end.
        requests: What to send.
        sender: How.
        streamed: Whether answers are streamed.
        times_s: When the calls of a replay are due, at the trace's own speed.
        on_result: Called with each result.

    Attributes:
        in_flight: Number of calls under way.
        failed: Number of failures.
        tokens: New tokens so far.
        samples: What was measured so far.
        hopeless: The error of a cell that was given up, since every call failed.
    """

    def __init__(
        self,
        load: Load,
        until: Until,
        requests: Iterator[Request],
        sender: Sender,
        *,
        streamed: bool,
        times_s: Sequence[float] = (),
        on_result: Callable[[TextResult], None] = lambda _: None,
    ) -> None:
        self.load, self.until = load, until
        self._requests, self._sender, self._streamed = requests, sender, streamed
        self._times_s, self._on_result = times_s, on_result
        self.samples: list[Sample] = []
        self.in_flight = self.failed = self.tokens = self.sent = 0
        self.hopeless: EndpointError | None = None
        self._stop_s: float | None = None
        self._began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._began

    @property
    def is_draining(self) -> bool:
        """Whether no more calls are sent."""
        return self._stop_s is not None

    async def run(self, seed: str, stop: asyncio.Event) -> Cell:
        """Send calls until it is time or ``stop`` is set, and wait for their answers.

        Args:
            seed: The seed of an open loop's arrivals.
            stop: Ends the cell; calls that are under way are cancelled.
        """
        began_at = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        self._began = time.perf_counter()
        processor_s, lags = time.process_time(), list[float]()
        watch = asyncio.create_task(_watch_loop(lags))
        loop = self._open_loop(seed) if self.load.is_open else self._closed_loop()
        interrupted = not await _run_until(loop, stop)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        lags.sort()
        client = ClientShare(cpu=(time.process_time() - processor_s) / max(self.elapsed_s, 1e-9))
        if lags:
            client = ClientShare(percentile(lags, 50), percentile(lags, 95), lags[-1], client.cpu)
        return Cell(
            self.load,
            tuple(self.samples),
            began_at,
            self.elapsed_s if self._stop_s is None else self._stop_s,
            self._streamed,
            client,
            interrupted=interrupted or self.hopeless is not None,
        )

    async def _closed_loop(self) -> None:
        await asyncio.gather(*(self._call_in_turn() for _ in range(int(self.load.value))))

    async def _call_in_turn(self) -> None:
        failures = 0
        while not self._is_over(self.elapsed_s):
            if await self._call(next(self._requests), self.elapsed_s):
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(min(_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S))

    def _arrivals(self, seed: str) -> Iterator[float]:
        """Yield when calls are due; those of a rate are Poisson arrivals, with exponential times between."""
        if self.load.kind == "replay":
            yield from (at_s / self.load.value for at_s in self._times_s)
            return
        generator, due_s = random.Random(seed), 0.0  # noqa: S311 - arrivals, not secrets
        while True:
            due_s += generator.expovariate(self.load.value)
            yield due_s

    async def _open_loop(self, seed: str) -> None:
        """Calls that are due at times of their own, whatever becomes of the others."""
        calls = set()
        for due_s in self._arrivals(seed):
            if self._is_over(due_s):
                break
            await asyncio.sleep(max(due_s - self.elapsed_s, 0.0))
            if self.hopeless is not None:
                break
            calls.add(asyncio.create_task(self._call(next(self._requests), due_s)))
            await asyncio.sleep(0)  # sends it now, also if the next one is due already
        self._stop_s = self._stop_s or (self.elapsed_s if self.until.calls else self.until.seconds)
        try:
            await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def _is_over(self, at_s: float) -> bool:
        if self.hopeless is None and not self.until.is_over(at_s, self.sent):
            return False
        if self._stop_s is None and not self.load.is_open:
            self._stop_s = self.elapsed_s
        return True

    async def _call(self, request: Request, due_s: float) -> bool:
        """Make a call, and write it down. Returns whether it had an answer."""
        number, self.sent = self.sent, self.sent + 1
        chunks: list[float] = []
        sent_s = self.elapsed_s
        result, failure, message = None, None, ""
        self.in_flight += 1
        try:
            result = await self._sender.send(request, lambda: chunks.append(self.elapsed_s))
        except EndpointError as error:
            failure, message = failure_kind(error), str(error)
            self.failed += 1
            every = 1 if self.load.is_open else int(self.load.value)
            if self.failed == len(self.samples) + 1 >= _HOPELESS * every:
                self.hopeless = error
        except asyncio.CancelledError:
            failure = CANCELLED
            raise
        finally:
            self.in_flight -= 1
            self.samples.append(
                Sample(
                    number,
                    due_s,
                    sent_s,
                    self.elapsed_s,
                    tuple(chunks),
                    request.wanted_input_tokens,
                    request.wanted_tokens,
                    input_tokens=result.input_tokens if result else 0,
                    generated_tokens=result.generated_tokens if result else 0,
                    characters=len(result.text) if result else 0,
                    words=len(result.text.split()) if result else 0,
                    finish_reason=result.finish_reason if result else "",
                    failure=failure,
                    message=message,
                )
            )
        if result is not None:
            self.tokens += result.generated_tokens
            self._on_result(result)
        return result is not None


async def _run_until(work: Awaitable[None], stop: asyncio.Event) -> bool:
    """Run until the work is done or ``stop`` is set; return whether it was done."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        is_done = task.done()
        if not is_done:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    if is_done:
        await task
    return is_done


async def _watch_loop(lags: list[float]) -> None:
    """Write down by how many seconds the event loop wakes up too late, until cancelled."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_LOOK_S)
        lags.append(time.perf_counter() - before - _LOOK_S)
