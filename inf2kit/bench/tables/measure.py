"""Measuring: warm-up, round trips, and every call of the protocol once in each run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from inf2kit.bench.prompts import PromptBuilder
from inf2kit.bench.tables.callers import Caller
from inf2kit.bench.tables.protocol import PROTOCOL, Cell, why_too_short
from inf2kit.bench.tables.samples import Measurement, Sample
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError, Inf2KitError
from inf2kit.serving.shapes import StaticShapes

#: New tokens of the warm-up, by which later calls are estimated.
_WARM_UP_TOKENS = 16
_ROUND_TRIPS = 8


@dataclass(frozen=True)
class Step:
    """How far a benchmark is.

    Attributes:
        done: Number of calls so far.
        total: Number of all calls.
        what: What is measured next.
        left_s: Seconds that the rest is expected to take; None if nothing is known yet.
    """

    done: int
    total: int
    what: str
    left_s: float | None

    def __str__(self) -> str:
        """Return one line."""
        line = f"{self.done} of {self.total}: {self.what}"
        return line if self.left_s is None else f"{line}; {_duration(self.left_s)} left"


class Bench:
    """One measurement of one endpoint.

    Args:
        caller: What is called.
        measurement: Gets the samples as they come, so that an interruption loses none.
        long: What is done with a call whose whole answer would come too late: ``stream`` or ``skip``.
        report: Called before each call.
    """

    def __init__(
        self,
        caller: Caller,
        measurement: Measurement,
        *,
        long: str = "stream",
        report: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._caller, self._measurement, self._long, self._report = caller, measurement, long, report
        shapes = StaticShapes.resolve(
            measurement.batch_size, measurement.sequence_length, measurement.max_context_length
        )
        self._cells: list[Cell] = []
        for cell in PROTOCOL:
            if reason := why_too_short(cell, shapes):
                measurement.left_out[cell.key] = reason
            else:
                self._cells.append(cell)
        # The calls that are still to be made, and the number of those that were.
        self._plan = [(run, cell) for run in range(1, measurement.runs + 1) for cell in self._cells]
        self._done = 0
        # Seconds of the slowest call so far, by its lengths.
        self._seconds: dict[Cell, float] = {}
        self._prompts: dict[int, str] = {}

    def run(self) -> None:
        """Measure all cells, one run after the other.

        Raises:
            Inf2KitError: the warm-up failed, or no cell fits into the rows. Later failures are samples.
        """
        if not self._cells:
            raise Inf2KitError(
                f"{self._measurement.name!r} has rows of {self._measurement.sequence_length} tokens, too "
                "short for every cell of the tables; measure a preset with a longer sequence_length"
            )
        self._warm_up()
        while self._plan:
            run, cell = self._plan[0]
            if self._measure(cell, run):
                self._plan.pop(0)
                self._done += 1
            else:
                self._plan = [(run, other) for run, other in self._plan if other != cell]

    def _warm_up(self) -> None:
        self._say("warm-up: prompts of exactly the tokens of the tables")
        builder = PromptBuilder.measure(self._caller.count)
        self._prompts = {cell.input_tokens: builder.build(cell.input_tokens) for cell in self._cells}
        shortest = min(self._prompts)
        for cell in (Cell(shortest, 1), Cell(shortest, _WARM_UP_TOKENS)):
            self._say(f"warm-up: {cell}")
            for warning in (warning for result in self._call_first(cell) for warning in result.warnings):
                if warning not in self._measurement.notices:
                    self._measurement.notices.append(warning)
        # The first one opens a connection.
        trips = [self._caller.round_trip_s() for _ in range(_ROUND_TRIPS)][1:]
        self._measurement.round_trips_s += [seconds for seconds in trips if seconds is not None]

    def _call_first(self, cell: Cell) -> list[TextResult]:
        """Make a call of whose duration nothing is known; it is streamed if its whole answer came too late.

        Raises:
            Inf2KitError: it failed for another reason, or as a stream, too.
        """
        if not self._is_too_long(cell):
            try:
                with self._timed(cell):
                    return self._call(cell, stream=False)
            except EndpointError:
                if self._long == "skip" or not self._is_too_long(cell):
                    raise
                self._say(f"warm-up: {cell}, streamed")
        with self._timed(cell):
            return self._call(cell, stream=True)

    def _is_too_long(self, cell: Cell) -> bool:
        """Whether the whole answer is expected after the time by which it must come."""
        limit_s, expected_s = self._caller.whole_limit_s, self._expected_s(cell)
        return limit_s is not None and expected_s is not None and expected_s > limit_s

    def _measure(self, cell: Cell, run: int) -> bool:
        """Make one call and keep its sample; False if all calls of this kind are to be skipped."""
        stream = self._is_too_long(cell)
        if stream and self._long == "skip":
            self._measurement.left_out[cell.key] = (
                f"skipped: it is expected to take {self._expected_s(cell):.0f} s, and a whole answer must "
                f"come within {self._caller.whole_limit_s:.0f} s"
            )
            return False
        self._say(f"run {run} of {self._measurement.runs}: {cell}{', streamed' if stream else ''}")
        try:
            with self._timed(cell) as seconds:
                results = self._call(cell, stream=stream)
        except Inf2KitError as error:
            sample = Sample(cell.input_tokens, cell.new_tokens, run, None, stream, error=str(error))
        else:
            sample = Sample(
                cell.input_tokens,
                cell.new_tokens,
                run,
                seconds[0],
                stream,
                tuple(result.input_tokens for result in results),
                tuple(result.generated_tokens for result in results),
                tuple(result.finish_reason for result in results),
            )
        self._measurement.samples.append(sample)
        return True

    def _call(self, cell: Cell, *, stream: bool) -> list[TextResult]:
        prompt = self._prompts[cell.input_tokens]
        return self._caller.call(prompt, self._measurement.batch_size, cell, stream=stream)

    @contextmanager
    def _timed(self, cell: Cell) -> Iterator[list[float]]:
        """Time a call, and yield a list that has its seconds at the end.

        A failure counts for what is expected only if it came too late: others say nothing of the duration.
        """
        seconds: list[float] = []
        began = time.perf_counter()
        failed = True
        try:
            yield seconds
            failed = False
        finally:
            seconds.append(time.perf_counter() - began)
            limit_s = self._caller.whole_limit_s
            if not failed or (limit_s is not None and seconds[0] > limit_s):
                self._seconds[cell] = max(seconds[0], self._seconds.get(cell, 0.0))

    def _expected_s(self, cell: Cell) -> float | None:
        """Seconds that a call took before, or that it takes at the step of the longest call before it."""
        if cell in self._seconds:
            return self._seconds[cell]
        first_s = [seconds for other, seconds in self._seconds.items() if other.new_tokens == 1]
        longest = max(self._seconds, key=lambda other: other.new_tokens, default=None)
        if longest is None or not first_s or longest.new_tokens == 1:
            return None
        step_s = max(self._seconds[longest] - min(first_s), 0.0) / (longest.new_tokens - 1)
        return statistics.median(first_s) + (cell.new_tokens - 1) * step_s

    def _say(self, what: str) -> None:
        expected = [self._expected_s(cell) for _, cell in self._plan]
        known = [seconds for seconds in expected if seconds is not None]
        left_s = sum(known) if len(known) == len(expected) else None
        self._report(Step(self._done, self._done + len(self._plan), what, left_s))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
