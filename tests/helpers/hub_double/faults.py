"""What may go wrong between a client and the hub, and how often."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

FOR_EVER = 10**9


@dataclass
class Fault:
    """Something that goes wrong with calls of one kind.

    Attributes:
        call: A regular expression of ``METHOD PATH``.
        times: How many more calls it happens to.
        status: The status of the answer instead of the real one; None leaves that as it is.
        headers: The headers of that answer.
        body: Its body.
        cut_after: Bytes of the body after which the connection ends.
        spoil: Whether the body's bytes are others, and twice as many.
        hold: Waited for before the answer begins, or, with ``cut_after``, in the middle of it.
    """

    call: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    spoil: bool = False
    hold: threading.Event | None = None

    def applies(self, call: str) -> bool:
        """Whether it happens to a call; each time counts."""
        if self.times < 1 or not re.search(self.call, call):
            return False
        self.times -= 1
        return True


def answer(
    call: str,
    status: int,
    *,
    times: int = FOR_EVER,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """Answer with a status and a body."""
    return Fault(call, times, status=status, body=body, headers=headers or {})


def cut(call: str, after: int, *, times: int = 1) -> Fault:
    """End the connection in the middle of a body."""
    return Fault(call, times, cut_after=after)


def hold(call: str, *, after: int | None = None, times: int = FOR_EVER) -> Fault:
    """Answer late, or, with ``after``, stop in the middle of a body, until the event ``hold`` is set."""
    return Fault(call, times, cut_after=after, hold=threading.Event())


def spoil(call: str, *, times: int = 1) -> Fault:
    """Answer with another file's bytes, more than there should be."""
    return Fault(call, times, spoil=True)
