"""Event simulation of an endpoint: each instance's rows, queue and prefills, behind a router.

The rules are those of ``serving/engine/scheduler.py`` and ``serving/engine/admission.py``, for calls of one
text each. Between two events all live rows take the same number of decode steps, so that these are skipped
at once: the cost is some microseconds a call, whatever its length.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from inf2kit.planning.times import EngineModel, ServiceTimes

_ARRIVAL, _PASS = 0, 1


class Ending(Enum):
    """How a call ended."""

    RUNNING = "not ended"
    ANSWERED = "answered"
    CUT = "answered at its deadline with the tokens so far"
    REFUSED = "429: the queue was full"
    TIMED_OUT = "429: no row until its deadline"


@dataclass(slots=True)
class Call:
    """A call and what became of it; times are seconds on the simulation's clock.

    Attributes:
        arrival: When it arrives.
        input_tokens: Tokens of its prompt.
        new_tokens: Tokens that it would generate.
        row_at: When it got a row.
        first_at: When its first token came.
        end_at: When its answer was complete.
        tokens: Tokens that it generated.
        ending: How it ended.
    """

    arrival: float
    input_tokens: int
    new_tokens: int
    row_at: float = math.nan
    first_at: float = math.nan
    end_at: float = math.nan
    tokens: int = 0
    ending: Ending = Ending.RUNNING
    prefilled: int = 0
    first_step: int = 0


#: Asked when a call ends, with the call and the time: the next call of the same caller, if there is one.
NextCall = Callable[[Call, float], "Call | None"]


@dataclass(slots=True)
class _Instance:
    """One engine.

    Its decode steps are a span: ``span`` steps of ``step_s`` seconds from ``began`` on, which a pass of the
    scheduler ends.
    """

    waiting: deque[Call] = field(default_factory=deque)
    prefilling: deque[Call] = field(default_factory=deque)
    fresh: list[Call] = field(default_factory=list)
    running: list[tuple[int, int, Call]] = field(default_factory=list)
    in_order: deque[Call] = field(default_factory=deque)
    steps: int = 0
    inside: int = 0
    is_idle: bool = True
    began: float = 0.0
    step_s: float = 0.0
    span: int = 0
    version: int = 0


class Simulation:
    """An endpoint of equal instances.

    Args:
        engine: The engines of each instance.
        instances: Their number.
        routing: ``least``: to the engine with the fewest calls inside, as the stack configures it among
            instances and the gateway among the engines of one; ``round_robin`` or ``random``.
        next_call: Gives the next call of the caller whose call ended; None for calls that come by themselves.
        seed: Seed of random routing.
    """

    def __init__(
        self,
        engine: EngineModel,
        instances: int = 1,
        *,
        routing: str = "least",
        next_call: NextCall | None = None,
        seed: int = 0,
    ) -> None:
        self._engine, self._times = engine, engine.times
        self._capacity = engine.rows + engine.queue_size
        self._instances = [_Instance() for _ in range(engine.engines * instances)]
        self._routing, self._random = routing, random.Random(seed)  # noqa: S311
        self._turns = itertools.cycle(range(len(self._instances)))
        self._next_call = next_call
        self._order = itertools.count()
        self._events: list[tuple[float, int, int, int, Call | _Instance]] = []
        self.calls: list[Call] = []

    def run(self, calls: Iterable[Call], horizon_s: float = math.inf) -> list[Call]:
        """Simulate until every call has ended, or until ``horizon_s``; returns all calls, also later ones.

        Args:
            calls: The calls that come by themselves, in the order of their arrival.
            horizon_s: When to stop. Calls that have not ended by then stay ``RUNNING``.
        """
        arrivals = iter(calls)
        coming = next(arrivals, None)
        events = self._events
        while coming is not None or events:
            if coming is not None and (not events or coming.arrival <= events[0][0]):
                if coming.arrival > horizon_s:
                    break
                self._arrive(coming)
                coming = next(arrivals, None)
                continue
            now, _, _, version, subject = heapq.heappop(events)
            if now > horizon_s:
                break
            if isinstance(subject, Call):
                self._arrive(subject)
            elif version == subject.version:
                self._end_span(subject, now)
        return self.calls

    def _arrive(self, call: Call) -> None:
        self.calls.append(call)
        now = call.arrival
        instance = self._route()
        self._drop_expired(instance, now)
        if instance.inside >= self._capacity:
            self._end(call, now, Ending.REFUSED)
            return
        instance.inside += 1
        instance.waiting.append(call)
        if instance.is_idle:
            # Calls that come at the same moment are there too when the pass begins.
            instance.is_idle = False
            self._plan_span(instance, now, 0)
        elif instance.span > 1 and len(instance.running) < self._engine.rows:
            # A row is free: the next pass is at the end of the step that runs.
            steps = max(1, math.ceil((now - instance.began) / instance.step_s))
            if steps < instance.span:
                self._plan_span(instance, instance.began, steps)

    def _route(self) -> _Instance:
        instances = self._instances
        if len(instances) == 1:
            return instances[0]
        if self._routing == "random":
            return self._random.choice(instances)
        turn = next(self._turns)
        if self._routing == "round_robin":
            return instances[turn]
        # Ties go round.
        return min(instances[turn:] + instances[:turn], key=lambda instance: instance.inside)

    def _pass(self, instance: _Instance, now: float) -> None:
        """One pass of the scheduler: give rows, prefill, and plan the decode steps until the next one."""
        engine = self._engine
        self._drop_expired(instance, now)
        free = engine.rows - len(instance.running) - len(instance.prefilling)
        while free and instance.waiting:
            call = instance.waiting.popleft()
            call.row_at = now
            instance.prefilling.append(call)
            free -= 1
        began, now = now, self._prefill(instance, now)
        rows = len(instance.running)
        if not rows and not instance.fresh:
            # After a prefill the instance is free only at its end.
            instance.is_idle = now == began and not (instance.prefilling or instance.waiting)
            if not instance.is_idle:
                self._plan_span(instance, now, 0)
            return
        instance.step_s = self._times.step(rows) if rows else 0.0
        if instance.prefilling or instance.fresh or (instance.waiting and rows < engine.rows):
            self._plan_span(instance, now, 1)
        else:
            self._plan_span(instance, now, self._steps_ahead(instance, now))

    def _steps_ahead(self, instance: _Instance, now: float) -> int:
        """Steps until the first row ends, by its length or by its deadline."""
        steps = instance.running[0][0] - instance.steps
        in_order = instance.in_order
        while in_order and in_order[0].ending is not Ending.RUNNING:
            in_order.popleft()
        if self._engine.ends_s < math.inf and in_order:
            left_s = in_order[0].arrival + self._engine.ends_s - now
            steps = min(steps, max(1, math.ceil(left_s / instance.step_s)))
        return steps

    def _plan_span(self, instance: _Instance, began: float, steps: int) -> None:
        instance.began, instance.span = began, steps
        instance.version += 1
        end = began + steps * instance.step_s if steps else began
        heapq.heappush(self._events, (end, _PASS, next(self._order), instance.version, instance))

    def _end_span(self, instance: _Instance, now: float) -> None:
        """Take the tokens of a span's steps: rows end by their length, or by their deadline."""
        instance.steps += instance.span
        running = instance.running
        while running and running[0][0] <= instance.steps:
            call = heapq.heappop(running)[2]
            call.tokens = call.new_tokens
            self._free(instance, call, now, Ending.ANSWERED)
        if self._engine.ends_s < math.inf:
            self._cut_expired(instance, now)
        for call in instance.fresh:
            self._first_token(instance, call, now)
        instance.fresh.clear()
        self._pass(instance, now)

    def _cut_expired(self, instance: _Instance, now: float) -> None:
        expired = set()
        while instance.in_order and instance.in_order[0].arrival + self._engine.ends_s <= now:
            call = instance.in_order.popleft()
            if call.ending is Ending.RUNNING:
                call.tokens = instance.steps - call.first_step + 1
                expired.add(id(call))
                self._free(instance, call, now, Ending.CUT)
        if expired:
            instance.running = [entry for entry in instance.running if id(entry[2]) not in expired]
            heapq.heapify(instance.running)

    def _prefill(self, instance: _Instance, now: float) -> float:
        """Run the prefills of one pass, and return the time after them."""
        for _ in range(self._engine.prefills_per_step):
            if not instance.prefilling:
                break
            seconds, complete = self._next_prefill(instance.prefilling)
            now += seconds
            for call in complete:
                instance.prefilling.remove(call)
                if self._engine.first_token_after_step:
                    instance.fresh.append(call)
                else:
                    self._first_token(instance, call, now)
            now += self._times.stall_s
        return now

    def _next_prefill(self, prefilling: deque[Call]) -> tuple[float, list[Call]]:
        """Seconds of the next prefill, and the calls whose prompt is complete after it."""
        room = self._engine.chunk_tokens
        if room is None:
            return self._times.prefill(prefilling[0].input_tokens), [prefilling[0]]
        complete, parts = [], []
        for call in prefilling:
            tokens = min(room, call.input_tokens - call.prefilled)
            parts.append((call.prefilled, tokens))
            call.prefilled += tokens
            room -= tokens
            if call.prefilled >= call.input_tokens:
                complete.append(call)
            if not room:
                break
        return chunks_s(self._times, parts), complete

    def _first_token(self, instance: _Instance, call: Call, now: float) -> None:
        call.first_at, call.tokens = now, 1
        call.first_step = instance.steps
        if call.new_tokens <= 1:
            self._free(instance, call, now, Ending.ANSWERED)
        elif now >= call.arrival + self._engine.ends_s:
            self._free(instance, call, now, Ending.CUT)
        else:
            last_step = instance.steps + call.new_tokens - 1
            heapq.heappush(instance.running, (last_step, next(self._order), call))
            instance.in_order.append(call)

    def _drop_expired(self, instance: _Instance, now: float) -> None:
        """End the calls that waited until their deadline, for a row or for their prefill."""
        deadline_s = self._engine.deadline_s
        for calls in (instance.waiting, instance.prefilling):
            while calls and calls[0].arrival + deadline_s <= now:
                self._free(instance, calls.popleft(), now, Ending.TIMED_OUT)

    def _free(self, instance: _Instance, call: Call, now: float, ending: Ending) -> None:
        instance.inside -= 1
        self._end(call, now, ending)

    def _end(self, call: Call, now: float, ending: Ending) -> None:
        call.end_at, call.ending = now, ending
        if self._next_call and (following := self._next_call(call, now)):
            event = (following.arrival, _ARRIVAL, next(self._order), 0, following)
            heapq.heappush(self._events, event)


def chunks_s(times: ServiceTimes, parts: list[tuple[int, int]]) -> float:
    """Seconds of a prefill of parts of prompts.

    The first part takes what its end takes more than its beginning; the others add their tokens to the same
    pass over the weights.

    Args:
        times: The engine's times.
        parts: Where each part begins in its prompt, and its tokens.
    """
    (start, first), *others = parts
    seconds = times.prefill(start + first) - (times.prefill(start) if start else 0.0)
    if others:
        total = first + sum(tokens for _, tokens in others)
        seconds += times.prefill(total) - times.prefill(first)
    # A later part reads its prompt's cache too, and takes no less than the shortest known prompt.
    return max(seconds, times.prefill_s[0] if not start else 0.0)
