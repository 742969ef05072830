"""How long an engine's prefills and decode steps take: all that a plan knows of a model and its device."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds of one engine's work.

    A decode step of n live rows takes ``step_s + n * row_step_s``. All rows wait for a prefill, and then for
    ``stall_s`` more.

    Attributes:
        prefill_tokens: Input tokens of the prompts whose prefill is known, ascending.
        prefill_s: Seconds of one prefill of each of these lengths.
        step_s: Seconds of a decode step, less the share of its rows.
        row_step_s: Seconds that each live row adds to a step.
        stall_s: Seconds that all rows wait after each prefill, which a single caller does not notice.
        round_trip_s: Seconds of a call outside the engine, such as the network's.
    """

    prefill_tokens: tuple[int, ...]
    prefill_s: tuple[float, ...]
    step_s: float
    row_step_s: float = 0.0
    stall_s: float = 0.0
    round_trip_s: float = 0.0

    def prefill(self, tokens: int) -> float:
        """Seconds of the prefill of one prompt: linear between known lengths and beyond, never below."""
        lengths, seconds = self.prefill_tokens, self.prefill_s
        if tokens <= lengths[0] or len(lengths) == 1:
            return seconds[0]
        index = min(bisect_left(lengths, tokens), len(lengths) - 1)
        low, high = lengths[index - 1], lengths[index]
        share = (tokens - low) / (high - low)
        return max(seconds[0], seconds[index - 1] + share * (seconds[index] - seconds[index - 1]))

    def step(self, rows: int) -> float:
        """Seconds of a decode step of so many live rows."""
        return self.step_s + rows * self.row_step_s

    def scaled(self, factor: float) -> ServiceTimes:
        """Return times that are all ``factor`` times as long; the network's stays."""
        return dataclasses.replace(
            self,
            prefill_s=tuple(factor * seconds for seconds in self.prefill_s),
            step_s=factor * self.step_s,
            row_step_s=factor * self.row_step_s,
            stall_s=factor * self.stall_s,
        )


@dataclass(frozen=True)
class EngineModel:
    """An instance's engines as the simulation sees them: their times, and how scheduler and gateway are set.

    Attributes:
        times: What prefills and steps take.
        rows: Texts that each engine decodes together.
        queue_size: Calls that may wait for a row of each engine; one more is answered with 429.
        deadline_s: Seconds from arrival by which a call has its first token, and at which a whole answer ends
            with the tokens it has.
        prefills_per_step: Most prefills between two decode steps.
        chunk_tokens: Tokens that one prefill takes at most, of one prompt or of several; None where a
            prefill takes one whole prompt, as compiled graphs do.
        first_token_after_step: Whether a first token comes at the end of the step in which its prefill ran.
            So do vLLM's; inf2kit's come before.
        stream_deadline_s: Seconds from arrival at which a stream ends; None for whole answers.
        engines: Equal engines of an instance, each with rows and a queue of its own.
    """

    times: ServiceTimes
    rows: int
    queue_size: int
    deadline_s: float = float("inf")
    prefills_per_step: int = 1
    chunk_tokens: int | None = None
    first_token_after_step: bool = False
    stream_deadline_s: float | None = None
    engines: int = 1

    @property
    def places(self) -> int:
        """Calls that an instance holds: the rows and the queues of its engines."""
        return self.engines * (self.rows + self.queue_size)

    @property
    def ends_s(self) -> float:
        """Seconds from arrival at which a call ends with the tokens it has."""
        return self.deadline_s if self.stream_deadline_s is None else self.stream_deadline_s
