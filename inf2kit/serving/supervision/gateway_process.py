"""The gateway as the supervisor sees it: started, watched, and started again."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable

from inf2kit.serving.log import log
from inf2kit.serving.supervision.backoff import Backoff
from inf2kit.serving.supervision.heartbeat import Heartbeat

#: Seconds after the model server's end in which the gateway ends its calls. SageMaker kills a container 30 s
#: after SIGTERM.
_DRAIN_S = 28.0


class GatewayProcess:
    """Keeps one gateway running.

    Args:
        start: Starts a gateway.
        heartbeat: The gateway's heartbeat.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], heartbeat: Heartbeat) -> None:
        self._start = start
        self._heartbeat = heartbeat
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._backoff = Backoff()

    def watch(self) -> None:
        """Start a gateway if there is none, and end one that is stuck. Call it several times a second.

        Raises:
            OSError: the system cannot start a process now.
        """
        now = time.monotonic()
        if self._process is not None and self._process.poll() is None and self._heartbeat.stalled:
            log("supervisor", f"the gateway is stuck: nothing for {self._heartbeat.silent_s:.0f} s")
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._process.poll() is not None:
            self._backoff.update(now - self._began)
            status = self._process.returncode
            log("supervisor", f"the gateway ended with status {status}; it is started again")
            self._process = None
        if self._process is None and now >= self._began + self._backoff.wait_s:
            self._began = now
            self._heartbeat.clear()
            self._process = self._start()

    def drain(self) -> None:
        """Let the gateway end the calls in progress, since the model server has ended."""
        if self._process is None:
            return
        log("supervisor", "the model server has ended; no new calls are taken, and those inside are ended")
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DRAIN_S)

    def kill(self) -> None:
        """End the gateway at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
