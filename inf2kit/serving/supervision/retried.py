"""Actions that the system may refuse for a while, such as a fork without memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from inf2kit.serving.log import log
from inf2kit.serving.supervision.backoff import Backoff


class Retried:
    """An action that is called again later if it raises OSError.

    Args:
        name: What the action looks after, for the log.
        action: The action.
    """

    def __init__(self, name: str, action: Callable[..., None]) -> None:
        self._name = name
        self._action = action
        self._backoff = Backoff()
        self._retry_at = 0.0

    def __call__(self, **options: object) -> None:
        """Call the action with these options, unless it failed a moment ago."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._action(**options)
            self._backoff.reset()
        except OSError as error:
            wait_s = self._backoff.update(lived_s=0.0)
            self._retry_at = time.monotonic() + wait_s
            log(
                "supervisor",
                f"the {self._name} cannot be looked after ({error}); trying again in {wait_s:g} s",
            )
