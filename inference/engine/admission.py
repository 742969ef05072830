"""The two ways in which plain load is refused: both 429, so that it never looks like a fault of ours."""

from __future__ import annotations

from inf2kit.errors import RequestError


def queue_full(inside: int, limit: int, *, retry_after_s: int = 1) -> RequestError:
    """For a call that finds all rows and the queue taken."""
    seconds = max(retry_after_s, 1)
    return RequestError(
        429,
        "queue_full",
        f"{inside} prompts are running or waiting and this endpoint holds {limit}; "
        f"try again in {seconds} s, or send fewer calls at once",
        retry_after_s=seconds,
    )


def queue_timeout() -> RequestError:
    """For a call that waited until its deadline without getting a row."""
    return RequestError(
        429,
        "queue_timeout",
        "the call waited for a row until its deadline; try again later, or send fewer calls at once",
        retry_after_s=1,
    )
