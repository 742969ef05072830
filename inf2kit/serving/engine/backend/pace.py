"""How long the steps of the simulated backend take, by the tokens that they work on."""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping

_LENGTH = re.compile(r"(prefill|step)_([0-9]{1,6})_seconds")


class Pace:
    """Durations of prefills and of decode steps.

    Args:
        step_s: Seconds of each, where nothing else is known.
        row_step_s: Seconds that each live row adds to a decode step.
        lengths: Seconds by names such as ``prefill_256_seconds``, the prefill of a prompt of 256 tokens, and
            ``step_512_seconds``, a decode step whose longest row has 512 tokens or more. Prefills of other
            lengths are linear between two of them and beyond, and none is shorter than the first.

    Raises:
        TypeError: a name is of another form.
    """

    def __init__(self, step_s: float, row_step_s: float, lengths: Mapping[str, float]) -> None:
        self._step_s, self._row_step_s = step_s, row_step_s
        points: dict[str, dict[int, float]] = {"prefill": {}, "step": {}}
        for name, seconds in lengths.items():
            if not (match := _LENGTH.fullmatch(name)):
                raise TypeError(f"there is no {name!r}")
            points[match[1]][int(match[2])] = seconds
        self._prefills = sorted(points["prefill"].items())
        self._steps = sorted(points["step"].items(), reverse=True)

    @property
    def has_prefills(self) -> bool:
        """Whether prefills have times of their own."""
        return bool(self._prefills)

    def prefill_s(self, tokens: int) -> float:
        """Seconds of a prefill of so many tokens."""
        points = self._prefills
        if len(points) < 2:
            return points[0][1] if points else self._step_s
        lengths = [length for length, _ in points]
        above = min(max(bisect.bisect_left(lengths, tokens), 1), len(points) - 1)
        (low, low_s), (high, high_s) = points[above - 1], points[above]
        return max(low_s + (tokens - low) * (high_s - low_s) / (high - low), points[0][1])

    def step_s(self, rows: int, tokens: int) -> float:
        """Seconds of a decode step of so many live rows, the longest of which has so many tokens."""
        step_s = next((seconds for length, seconds in self._steps if tokens >= length), self._step_s)
        return step_s + rows * self._row_step_s
