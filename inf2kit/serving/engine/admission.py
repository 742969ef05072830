"""The limit on texts that an endpoint holds at once, of which lists may take at most half.

A call over the limit gets 429, so that load never looks like a fault of the endpoint.
"""

from __future__ import annotations

from inf2kit.errors import RequestError


class Admission:
    """Counts the texts of an endpoint against its capacity: its rows and its queue.

    Each call counts as one text. The further texts of lists count too, but for at most half of the capacity:
    a longer list is admitted while no other list is there, and its rest waits without taking capacity from
    other calls.

    Args:
        capacity: Most texts at once.

    Attributes:
        capacity: Most texts at once; it may change.
        texts: Number of texts that were admitted and are not released.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.texts = 0
        self._calls = 0
        self._further_texts = 0

    @property
    def further_texts(self) -> int:
        """Number of texts of lists, beyond the first one of each."""
        return self._further_texts

    @property
    def _max_further_texts(self) -> int:
        return max(1, self.capacity // 2 - 1)

    def has_room(self, texts: int) -> bool:
        """Whether a call of so many texts would be admitted."""
        further_texts = self._further_texts + texts - 1
        is_full = self._calls + 1 + min(further_texts, self._max_further_texts) > self.capacity
        is_second_list = texts > 1 and self._further_texts > 0 and further_texts > self._max_further_texts
        return not (is_full or is_second_list)

    def admit(self, texts: int, *, replaces_admitted: bool = False, retry_after_s: int = 1) -> None:
        """Count a call in.

        Args:
            texts: Number of texts of the call.
            replaces_admitted: Whether it replaces a call that was admitted already; it is never refused.
            retry_after_s: Seconds to wait before another try, for the error.

        Raises:
            RequestError: 429 ``queue_full``.
        """
        if not replaces_admitted and not self.has_room(texts):
            raise queue_full(self.texts, self.capacity, retry_after_s=retry_after_s)
        self.texts += texts
        self._calls += 1
        self._further_texts += texts - 1

    def release(self, texts: int, remaining: int = 0) -> None:
        """Count texts of one call out.

        Args:
            texts: Number of texts that the call had until now.
            remaining: Number of texts that it still has.
        """
        self.texts -= texts - remaining
        self._calls -= not remaining
        self._further_texts -= texts - 1 - max(remaining - 1, 0)


def queue_full(texts: int, capacity: int, *, retry_after_s: int = 1) -> RequestError:
    """The error for a call that finds all rows and the queue taken."""
    seconds = max(retry_after_s, 1)
    return RequestError(
        429,
        "queue_full",
        f"{texts} prompts are running or waiting and this endpoint holds {capacity}; "
        f"try again in {seconds} s, or send fewer calls at once",
        retry_after_s=seconds,
    )


def queue_timeout() -> RequestError:
    """The error for a call that waited until its deadline without getting a row."""
    return RequestError(
        429,
        "queue_timeout",
        "the call waited for a row until its deadline; try again later, or send fewer calls at once",
        retry_after_s=1,
    )
