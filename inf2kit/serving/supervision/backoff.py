"""Waits between the starts of a process that ends again and again."""

from __future__ import annotations

#: A process that lived longer ended by accident, and is started again at once.
_LONG_LIFE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


class Backoff:
    """The wait before the next start: none after a long life, else twice the last one.

    Attributes:
        wait_s: The current wait in seconds, 0 to 30.
    """

    def __init__(self) -> None:
        self.wait_s = 0.0

    def update(self, lived_s: float) -> float:
        """The next wait in seconds, after a process that lived for ``lived_s``; 0 for a failed start."""
        if lived_s > _LONG_LIFE_S:
            self.wait_s = 0.0
        else:
            self.wait_s = min(max(2 * self.wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        return self.wait_s

    def reset(self) -> None:
        """Start over, without a wait."""
        self.wait_s = 0.0
