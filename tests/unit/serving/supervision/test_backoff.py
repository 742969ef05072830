"""The waits between the starts of a process."""

from __future__ import annotations

from inf2kit.serving.supervision.backoff import Backoff


def test_waits_double_up_to_half_a_minute_and_end_with_a_long_life() -> None:
    backoff = Backoff()
    assert [backoff.update(lived_s=0.1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.update(lived_s=5.1) == 0
    assert backoff.update(lived_s=0) == 0.5
    backoff.reset()
    assert backoff.wait_s == 0
