"""The clock that shortens AWS's deliberate waits."""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE_S = 60.0


@dataclass(frozen=True)
class Clock:
    """Shortens the waits that AWS makes on purpose: baking, cool-downs, the periods of metrics.

    Work that takes time by itself (a start, a call, a time-out) is never shortened.

    Attributes:
        minute_s: Seconds that stand for one minute of AWS; 60 is real time.
    """

    minute_s: float = _MINUTE_S

    def shorten(self, seconds: float) -> float:
        """Convert seconds of AWS to seconds of this machine."""
        return seconds * self.minute_s / _MINUTE_S
