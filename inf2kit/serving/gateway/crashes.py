"""Prompts in progress when the engine crashed, so that a prompt which crashes it is not run for ever."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterable

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Chat, GenerateRequest

#: Crashes with the same prompt after which it is refused, and seconds for which they count.
_MAX_CRASHES, _REFUSED_S = 2, 3600.0
#: Seconds for which a failed call counts as in progress: its error may come before the crash is noticed.
_JUST_FAILED_S = 2.0


class Crashes:
    """Counts for each prompt, by its hash, the crashes of the engine while it was in progress.

    An engine that another process ends, such as the kernel when memory is short, counts as crashed too: the
    gateway cannot tell them apart.
    """

    def __init__(self) -> None:
        self._in_progress: Counter[bytes] = Counter()
        self._failed: deque[tuple[float, bytes]] = deque(maxlen=1000)
        # In progress at the last crash and counted then: their errors follow, and belong to no other crash.
        self._counted: set[bytes] = set()
        self._crashes: dict[bytes, list[float]] = {}

    def enter(self, request: GenerateRequest) -> list[bytes]:
        """Note that a call's prompts are in progress.

        Returns:
            Their hashes, for ``leave``.

        Raises:
            RequestError: 422 ``crashed_before``.
        """
        digests = [hashlib.sha256(text.encode()).digest() for text in _prompts(request)]
        now = time.monotonic()
        for digest in digests if self._crashes else ():
            recent = [crash for crash in self._crashes.get(digest, ()) if now - crash < _REFUSED_S]
            if len(recent) >= _MAX_CRASHES:
                raise RequestError(
                    422,
                    "crashed_before",
                    f"the engine ended {len(recent)} times within an hour while this prompt was running, so "
                    "it is refused for now; change it, or look into the endpoint's log for the reason",
                )
        self._in_progress.update(digests)
        return digests

    def leave(self, digests: Iterable[bytes], *, failed: bool) -> None:
        """Note that a call is over; ``failed`` if the engine did not answer it."""
        for digest in digests:
            self._in_progress[digest] -= 1
            if not self._in_progress[digest]:
                del self._in_progress[digest]
            if failed and digest not in self._counted:
                self._failed.append((time.monotonic(), digest))
            self._counted.discard(digest)

    def record_crash(self) -> None:
        """Count a crash for the prompts in progress."""
        now = time.monotonic()
        just_failed = {digest for failure, digest in self._failed if now - failure < _JUST_FAILED_S}
        self._failed.clear()
        # Old crashes are forgotten, so that memory does not grow.
        self._crashes = {
            digest: times for digest, times in self._crashes.items() if now - times[-1] < _REFUSED_S
        }
        self._counted = set(self._in_progress)
        for digest in just_failed | self._counted:
            self._crashes.setdefault(digest, []).append(now)


def _prompts(request: GenerateRequest) -> Iterable[str]:
    return [json.dumps(prompt.messages) if isinstance(prompt, Chat) else prompt for prompt in request.prompts]
