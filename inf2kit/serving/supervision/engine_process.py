"""An engine as the supervisor sees it: started, watched, and started again while that may help."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from inf2kit.serving.log import log
from inf2kit.serving.supervision.backoff import Backoff
from inf2kit.serving.supervision.heartbeat import Heartbeat
from inf2kit.serving.supervision.run_state import CANNOT_LOAD, DEVICE_BUSY, delete_reason, read_reason

#: Failed loads in a row after which an engine that was never ready is not started again. After one that was
#: ready, something is short for a while, and loads are retried for as long as the container lives.
_MAX_FAILED_STARTS = 3
#: Seconds that the device may be held before an engine was ever ready. A container has its devices for
#: itself: what holds one for longer is not an earlier engine that still ends, and waiting costs money.
_BUSY_LIMIT_S = 180.0
#: Shortest limit on the seconds of a load, once one has succeeded.
_MIN_LOAD_LIMIT_S = 600.0
#: Seconds in which a stuck engine writes its stacks.
_STACKS_S = 0.5
#: Seconds in which a killed process ends, unless the kernel waits for a device on its behalf.
_KILLED_S = 10.0


class EngineProcess:
    """Keeps one engine running.

    Args:
        start: Starts an engine.
        heartbeat: The engine's heartbeat.
        folder: Where the engine leaves the reason of its end.
        of: Which of several engines it is, such as `` (engine 1 of 3)``; empty for the only one.
        was_ready: Whether an earlier supervisor of this container had it ready.

    Attributes:
        of: As above.
        state: ``starting``, ``ready``, ``waiting for the device`` or ``failed``.
        reason: Why, for ``waiting for the device`` and ``failed``.
        restarts: Number of times that it was started again.
        held: Number of starts at which another process held the device.
    """

    def __init__(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        heartbeat: Heartbeat,
        folder: Path,
        *,
        of: str = "",
        was_ready: bool = False,
    ) -> None:
        self.of = of
        self.state = "starting"
        self.reason: str | None = None
        self.restarts = self.held = 0
        self._start = start
        self._heartbeat = heartbeat
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        self._restart_backoff, self._busy_backoff = Backoff(), Backoff()
        self._failed_starts = 0
        self._was_ready = was_ready
        self._load_began = self._ready_since = self._longest_load_s = 0.0
        self._busy_since: float | None = None
        self._killed_at: float | None = None

    @property
    def is_loading(self) -> bool:
        """Whether it has begun to load and is not ready yet; one that was killed loads no more."""
        return self._process is not None and self._killed_at is None and not self._heartbeat.serving

    def watch(self, *, may_load: bool = True) -> None:
        """Start an engine if there is none, and end one that is stuck. Call it several times a second.

        Nothing happens any more once its state is ``failed``: no engine will ever be ready.

        Args:
            may_load: Whether an engine may be started now.

        Raises:
            OSError: the system cannot start a process now.
        """
        now = time.monotonic()
        if self._process is None:
            if may_load and now >= self._start_at and self.state != "failed":
                self._load(now)
            return
        status = self._process.poll()
        if status is None:
            self._watch_running(self._process, now)
            return
        self._process = None
        if status == CANNOT_LOAD:
            self._fail(read_reason(self._folder))
        elif status == DEVICE_BUSY:
            self._wait_for_device(now)
        else:
            self._restart(status, now)

    def kill(self) -> None:
        """End the engine at once, without waiting for its end."""
        if self._process is not None:
            self._process.kill()

    def wait(self) -> None:
        """Wait for the end of an engine that was killed."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILLED_S)

    def _fail(self, reason: str) -> None:
        self.state, self.reason = "failed", reason

    def _load(self, now: float) -> None:
        self.state, self.reason = "starting", None
        self._heartbeat.clear()
        delete_reason(self._folder)
        self._process = self._start()
        self._load_began = now
        self._killed_at = None

    def _watch_running(self, process: subprocess.Popen[bytes], now: float) -> None:
        loading_s = now - self._load_began
        if self._killed_at is not None:
            if now > self._killed_at + _KILLED_S:
                log(
                    "supervisor",
                    f"the engine was killed and does not end{self.of}: its device does not let it go",
                )
                self._killed_at = math.inf
        elif self._heartbeat.stalled:
            self._end_stuck(process, f"no progress for {self._heartbeat.silent_s:.0f} s")
        elif self._heartbeat.serving:
            if self.state != "ready":
                self.state, self._was_ready = "ready", True
                self._ready_since = now
                self._longest_load_s = max(self._longest_load_s, loading_s)
        elif self._longest_load_s and loading_s > max(_MIN_LOAD_LIMIT_S, 3 * self._longest_load_s):
            # Only after a load that succeeded: nothing else tells how long one may take.
            self._end_stuck(process, f"it has been loading for {loading_s:.0f} s")

    def _end_stuck(self, process: subprocess.Popen[bytes], reason: str) -> None:
        """End an engine whose device call does not return, after it has logged the stacks of its threads."""
        log(
            "supervisor",
            f"the engine is stuck{self.of}: {reason}; its stacks follow, and it is started again",
        )
        process.send_signal(signal.SIGUSR1)
        time.sleep(_STACKS_S)
        process.kill()
        # Its end is not awaited here: the gateway and the end of the container must be watched meanwhile.
        self._killed_at = time.monotonic()

    def _wait_for_device(self, now: float) -> None:
        """Start again later: the process that holds the device may be an earlier engine that still ends."""
        reason = read_reason(self._folder)
        self._busy_since = self._busy_since or now
        if not self._was_ready and now - self._busy_since > _BUSY_LIMIT_S:
            self._fail(f"{reason}; it was held for {now - self._busy_since:.0f} s, so it will not be free")
            return
        self.held += 1
        wait_s = self._busy_backoff.update(lived_s=0.0)
        self._start_at = now + wait_s
        log(
            "supervisor",
            f"waiting for the device{self.of}: {reason}; the engine is started again in {wait_s:g} s",
        )
        self.state, self.reason = "waiting for the device", reason

    def _restart(self, status: int, now: float) -> None:
        """Start again, unless the engine fails each time while it loads."""
        self._busy_backoff.reset()
        self._busy_since = None
        was_serving = self._heartbeat.serving
        self._failed_starts = 0 if was_serving else self._failed_starts + 1
        self._heartbeat.clear()
        self.state = "starting"
        self.restarts += 1
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        if self._failed_starts >= _MAX_FAILED_STARTS and not self._was_ready:
            if status > 0:
                hint = read_reason(self._folder)
            else:
                hint = "signal 9 is often a lack of memory: choose more of it"
            times = f"{self._failed_starts} times while loading"
            self._fail(f"the engine ended {times}, the last time with {ended}; {hint}")
            return
        # An engine that has served for a while ended by accident.
        served_s = now - self._ready_since if was_serving else 0.0
        wait_s = self._restart_backoff.update(served_s)
        self._start_at = now + wait_s
        when = f" in {wait_s:g} s" if wait_s else ""
        log("supervisor", f"the engine ended{self.of} with {ended}; it is started again{when}")
