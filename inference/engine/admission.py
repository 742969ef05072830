"""Who may come in: so many texts at once, of which one call counts for at most half.

Plain load is refused with 429, so that it never looks like a fault of the endpoint.
"""

from __future__ import annotations

from inf2kit.errors import RequestError


class Admission:
    """The places of an endpoint: its rows and its queue.

    A list of texts takes places for at most half of them. The rest waits beside the others' calls, which are
    not refused because of it.

    Args:
        places: Texts that may be inside at once.

    Attributes:
        texts: Texts that are inside.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.texts = 0
        self._taken = 0

    def enter(self, texts: int, *, always: bool = False, retry_after_s: int = 1) -> None:
        """Let a call in.

        Args:
            texts: Of the call.
            always: Whether it is in already, and only changes places.
            retry_after_s: Seconds after which another try makes sense.

        Raises:
            RequestError: 429 ``queue_full``.
        """
        if not always and self._taken + self._share(texts) > self.places:
            raise queue_full(self._taken, self.places, retry_after_s=retry_after_s)
        self.texts += texts
        self._taken += self._share(texts)

    def leave(self, texts: int, left: int = 0) -> None:
        """A call that had so many texts inside has ``left`` of them now."""
        self.texts -= texts - left
        self._taken -= self._share(texts) - self._share(left)

    def _share(self, texts: int) -> int:
        return min(texts, max(1, self.places // 2))


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
