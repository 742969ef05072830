"""Prompts in progress when an engine crashed, so that a prompt which crashes it is not run for ever."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict, deque

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Chat, GenerateRequest

#: Crashes with the same prompt after which it is refused, and seconds for which they count.
_MAX_CRASHES, _REFUSED_S = 2, 3600.0
#: Seconds for which a failed call counts as in progress: its error may come before the crash is noticed.
_JUST_FAILED_S = 2.0


#: The hashes of a call's prompts.
Prompts = tuple[bytes, ...]


class Crashes:
    """Counts for each prompt, by its hash, the ends of engines while it was in progress with them.

    An engine that another process ends, such as the kernel when memory is short, counts as crashed too: the
    gateway cannot tell them apart.
    """

    def __init__(self) -> None:
        # The prompts in progress with each engine.
        self._in_progress: defaultdict[int, Counter[bytes]] = defaultdict(Counter)
        self._failed: deque[tuple[float, int, bytes]] = deque(maxlen=1000)
        # In progress at an engine's last crash and counted then: their errors follow, and belong to no other.
        self._counted: defaultdict[int, set[bytes]] = defaultdict(set)
        self._crashes: dict[bytes, list[float]] = {}

    def check(self, prompts: Prompts) -> None:
        """Refuse prompts that were in progress at several crashes.

        Raises:
            RequestError: 422 ``crashed_before``.
        """
        for prompt in prompts if self._crashes else ():
            if (crashes := self._recent_crashes(prompt)) >= _MAX_CRASHES:
                raise RequestError(
                    422,
                    "crashed_before",
                    f"the engine ended {crashes} times within an hour while this prompt was running, so "
                    "it is refused for now; change it, or look into the endpoint's log for the reason",
                )

    def is_suspect(self, prompts: Prompts) -> bool:
        """Whether one of these prompts was in progress at a crash."""
        return bool(self._crashes) and any(map(self._recent_crashes, prompts))

    def is_running(self, prompts: Prompts) -> bool:
        """Whether one of these prompts is in progress with any engine."""
        return any(prompt in running for running in self._in_progress.values() for prompt in prompts)

    def enter(self, prompts: Prompts, engine: int = 0) -> None:
        """Note that an engine has a call's prompts."""
        self._in_progress[engine].update(prompts)

    def leave(self, prompts: Prompts, engine: int = 0, *, failed: bool) -> None:
        """Note that a call is over; ``failed`` if the engine did not answer it."""
        running, counted = self._in_progress[engine], self._counted[engine]
        for prompt in prompts:
            running[prompt] -= 1
            if not running[prompt]:
                del running[prompt]
            if failed and prompt not in counted:
                self._failed.append((time.monotonic(), engine, prompt))
            counted.discard(prompt)

    def record_crash(self, engine: int = 0) -> None:
        """Count a crash for the prompts that an engine had."""
        now = time.monotonic()
        just_failed = {
            prompt
            for failure, failed_with, prompt in self._failed
            if failed_with == engine and now - failure < _JUST_FAILED_S
        }
        others = [failure for failure in self._failed if failure[1] != engine]
        self._failed.clear()
        self._failed.extend(others)
        # Old crashes are forgotten, so that memory does not grow.
        self._crashes = {
            prompt: times for prompt, times in self._crashes.items() if now - times[-1] < _REFUSED_S
        }
        self._counted[engine] = set(self._in_progress[engine])
        for prompt in just_failed | self._counted[engine]:
            self._crashes.setdefault(prompt, []).append(now)

    def _recent_crashes(self, prompt: bytes) -> int:
        now = time.monotonic()
        return sum(now - crash < _REFUSED_S for crash in self._crashes.get(prompt, ()))


def prompts_of(request: GenerateRequest) -> Prompts:
    """The hashes of a call's prompts."""
    texts = (
        json.dumps(prompt.messages) if isinstance(prompt, Chat) else prompt for prompt in request.prompts
    )
    return tuple(hashlib.sha256(text.encode()).digest() for text in texts)
