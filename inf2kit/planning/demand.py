"""What is asked of an endpoint: how many calls or callers, and how long prompts and answers are."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inf2kit.errors import PlanError
from inf2kit.planning.lengths import Lengths
from inf2kit.planning.simulation import Call


@dataclass(frozen=True)
class Trace:
    """Calls of the past, whose lengths are used again, and their times if they have some.

    Attributes:
        input_tokens: Tokens of each prompt.
        new_tokens: Tokens of each answer.
        times_s: Seconds from the first call to each, ascending; empty if they are not known.
    """

    input_tokens: tuple[int, ...]
    new_tokens: tuple[int, ...]
    times_s: tuple[float, ...] = ()

    @property
    def rate(self) -> float | None:
        """Calls per second, or None without times."""
        if len(self.times_s) < 2 or not self.times_s[-1]:
            return None
        return (len(self.times_s) - 1) / self.times_s[-1]


@dataclass(frozen=True)
class Demand:
    """Calls at random times, or callers who each wait for their answer and call again.

    Attributes:
        rate: Calls per second; None if there are callers.
        callers: Callers at once; None if there is a rate.
        lengths: Draws the input and new tokens of a call.
        mean_input: Mean tokens of a prompt.
        mean_new: Mean tokens of an answer.
        longest_new: Tokens of the longest answer, or a large one where there is no longest.
        description: The lengths in words.
        times_s: The times of calls that are not at random, from a trace.
    """

    rate: float | None
    callers: int | None
    lengths: Callable[[random.Random], tuple[int, int]]
    mean_input: float
    mean_new: float
    longest_new: int
    description: str
    times_s: tuple[float, ...] = ()

    @classmethod
    def of_lengths(
        cls, inputs: Lengths, new: Lengths, *, rate: float | None = None, callers: int | None = None
    ) -> Demand:
        """A demand whose lengths are drawn, each by itself."""
        longest = new.mean + 3 * new.deviation if new.deviation else new.high

        def draw(generator: random.Random) -> tuple[int, int]:
            return inputs.draw(generator), new.draw(generator)

        words = f"{inputs} input and {new} new tokens"
        return cls(rate, callers, draw, inputs.mean, new.mean, math.ceil(longest), words)

    @classmethod
    def of_trace(cls, trace: Trace, *, rate: float | None = None, callers: int | None = None) -> Demand:
        """A demand whose calls are those of a trace, at its times unless a rate or callers are given."""
        pairs = list(zip(trace.input_tokens, trace.new_tokens, strict=True))
        times_s: tuple[float, ...] = ()
        if rate is None and callers is None:
            rate, times_s = trace.rate, trace.times_s
            if rate is None:
                raise PlanError("the trace has no times, so it says no rate; give --rate or --callers")
        mean_input, mean_new = statistics.fmean(trace.input_tokens), statistics.fmean(trace.new_tokens)
        means = f"{mean_input:.0f} input and {mean_new:.0f} new tokens"
        words = f"{len(pairs):,} calls of a trace: on average {means}"

        def draw(generator: random.Random) -> tuple[int, int]:
            return generator.choice(pairs)

        return cls(rate, callers, draw, mean_input, mean_new, max(trace.new_tokens), words, times_s)

    @property
    def amount(self) -> str:
        """How much is asked, in words."""
        if self.callers:
            return "1 caller" if self.callers == 1 else f"{self.callers} callers"
        return "1 call a second" if self.rate == 1 else f"{self.rate:.4g} calls a second"

    def calls(self, generator: random.Random, number: int, rate: float) -> list[Call]:
        """Draw calls at random times (Poisson), or at the trace's times, stretched to the rate."""
        now, calls = 0.0, []
        if self.times_s and self.rate:
            stretch = self.rate / rate
            shift = generator.randrange(len(self.times_s))
            cycle = self.times_s[-1] + 1 / self.rate
            for index in range(number):
                turn, place = divmod(shift + index, len(self.times_s))
                at = (turn * cycle + self.times_s[place] - self.times_s[shift]) * stretch
                calls.append(Call(at, *self.lengths(generator)))
            return calls
        for _ in range(number):
            now += generator.expovariate(rate)
            calls.append(Call(now, *self.lengths(generator)))
        return calls


def fit_to_rows(calls: Sequence[Call], longest_input: int, sequence_length: int) -> Sequence[Call]:
    """Shorten calls to what a row holds; longer prompts, which an engine refuses, count as the longest."""
    for call in calls:
        call.input_tokens = min(call.input_tokens, longest_input)
        call.new_tokens = max(1, min(call.new_tokens, sequence_length - call.input_tokens))
    return calls
