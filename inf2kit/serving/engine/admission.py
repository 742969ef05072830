"""Who may come in: so many texts at once, of which lists count for at most half.

Plain load is refused with 429, so that it never looks like a fault of the endpoint.
"""

from __future__ import annotations

from inf2kit.errors import RequestError


class Admission:
    """The places of an endpoint: its rows and its queue.

    Each call takes one, and lists take at most half of all places together. A list that is longer is let in
    while no other one is; its rest waits beside the others' calls, which are not refused because of it.

    Args:
        places: Texts that may be inside at once.

    Attributes:
        texts: Texts that are inside.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.texts = 0
        self._calls = 0
        self._further = 0
        self._most_further = max(1, places // 2 - 1)

    def enter(self, texts: int, *, always: bool = False, retry_after_s: int = 1) -> None:
        """Let a call in.

        Args:
            texts: Of the call.
            always: Whether it is in already, and only changes places.
            retry_after_s: Seconds after which another try makes sense.

        Raises:
            RequestError: 429 ``queue_full``.
        """
        further = self._further + texts - 1
        too_many = self._calls + 1 + min(further, self._most_further) > self.places
        another_list = texts > 1 and self._further > 0 and further > self._most_further
        if not always and (too_many or another_list):
            raise queue_full(self.texts, self.places, retry_after_s=retry_after_s)
        self.texts += texts
        self._calls += 1
        self._further = further

    def leave(self, texts: int, left: int = 0) -> None:
        """A call that had so many texts inside has ``left`` of them now."""
        self.texts -= texts - left
        self._calls -= not left
        self._further -= texts - 1 - max(left - 1, 0)


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
