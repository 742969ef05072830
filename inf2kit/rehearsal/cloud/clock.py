"""How long a minute of AWS's own waiting lasts here."""

from __future__ import annotations

import threading
from dataclasses import dataclass

_MINUTE_S = 60.0


@dataclass(frozen=True)
class Clock:
    """Shortens what AWS waits for on purpose: baking, cool-downs, the periods of metrics.

    What a program really takes (a start, a call, a time-out) is never shortened.

    Attributes:
        minute_s: Seconds that stand for a minute; 60 is AWS's own.
    """

    minute_s: float = _MINUTE_S

    def here(self, seconds: float) -> float:
        """AWS's seconds as seconds of this machine."""
        return seconds * self.minute_s / _MINUTE_S

    def wait(self, seconds: float, until: threading.Event) -> bool:
        """Wait as AWS would for so many seconds, or until something happens; true when it has."""
        return until.wait(self.here(seconds))
