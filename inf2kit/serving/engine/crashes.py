"""Prompts that were inside when the engine ended, so that one that breaks it is not tried for ever."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterable

from inf2kit.errors import RequestError
from inf2kit.serving.wire import GenerateRequest

#: A prompt that was inside at so many ends of the engine is refused for so many seconds.
_CRASHES, _REFUSED_S = 2, 3600.0
#: The calls of an engine that ends may have had their errors before its end is noticed.
_JUST_LEFT_S = 2.0


class Crashes:
    """Counts, for each prompt by its hash, at how many ends of the engine it was inside.

    An engine that somebody else ends, as the kernel does where memory is short, counts too: nobody can tell.
    """

    def __init__(self) -> None:
        self._inside: Counter[bytes] = Counter()
        self._failed: deque[tuple[float, bytes]] = deque(maxlen=1000)
        # Those of the last end that were inside still; their errors come yet, and are not another end's.
        self._counted: set[bytes] = set()
        self._crashes: dict[bytes, list[float]] = {}

    def enter(self, request: GenerateRequest) -> list[bytes]:
        """A call's prompts come in; their hashes, for ``leave``.

        Raises:
            RequestError: 422 ``crashed_before``.
        """
        digests = [hashlib.sha256(text.encode()).digest() for text in _prompts(request)]
        now = time.monotonic()
        for digest in digests if self._crashes else ():
            recent = [at for at in self._crashes.get(digest, ()) if now - at < _REFUSED_S]
            if len(recent) >= _CRASHES:
                raise RequestError(
                    422,
                    "crashed_before",
                    f"the engine ended {len(recent)} times within an hour while this prompt was inside, so "
                    "it is refused for now; change it, or look into the endpoint's log for the reason",
                )
        self._inside.update(digests)
        return digests

    def leave(self, digests: Iterable[bytes], *, failed: bool) -> None:
        """A call is over; ``failed`` where the engine did not answer it."""
        for digest in digests:
            self._inside[digest] -= 1
            if not self._inside[digest]:
                del self._inside[digest]
            if failed and digest not in self._counted:
                self._failed.append((time.monotonic(), digest))
            self._counted.discard(digest)

    def crashed(self) -> None:
        """The engine has ended."""
        now = time.monotonic()
        left = {digest for at, digest in self._failed if now - at < _JUST_LEFT_S}
        self._failed.clear()
        # What is long over is forgotten, so that this does not grow.
        self._crashes = {
            digest: times for digest, times in self._crashes.items() if now - times[-1] < _REFUSED_S
        }
        self._counted = set(self._inside)
        for digest in left | self._counted:
            self._crashes.setdefault(digest, []).append(now)


def _prompts(request: GenerateRequest) -> Iterable[str]:
    return request.prompts or (json.dumps(request.messages),)
