"""One instance: a container, and the state that its ``/ping`` shows until it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from inf2kit import paths
from inf2kit.rehearsal import folders
from inf2kit.rehearsal.container import launchers, processes
from inf2kit.rehearsal.container.spec import ContainerSpec
from inf2kit.rehearsal.runtime.containers import Target
from inf2kit.serving.supervision.run_state import SupervisorState

#: Seconds that SageMaker gives /ping.
_PING_LIMIT_S = 2.0
_STARTING_INTERVAL_S, _RUNNING_INTERVAL_S = 0.1, 0.5
#: Seconds without an answer from /ping after which a container without its model server has failed. On AWS
#: such a container lives on; how long SageMaker waits is not documented.
_LOST_S = 2.0
#: Seconds until the system has noted the end of a killed process.
_REAP_S = 2.0
_MAX_LINE_BYTES = 64 * 1024
#: The model server's traceback of a handler that cannot be loaded. It continues as if it had been loaded.
_HANDLER_NOT_LOADED = re.compile(r'mms/model_loader\.py", line \d+, in load')
#: The model server logs an exception's message before its traceback, and may cut the traceback off.
_MESSAGE = re.compile(r"^(?:.* - )?(.+)\n.*Traceback \(most recent call last\)", re.MULTILINE)
#: The last line of a traceback.
_ERROR = re.compile(r"\b([A-Za-z_.]*(?:Error|Exception)\b: .*)")


class LogSearch:
    """Searches a growing log for a pattern within a line, and reads each byte once.

    Args:
        log: The file, which may not exist yet.
        pattern: What to search for.
    """

    def __init__(self, log: Path, pattern: re.Pattern[str]) -> None:
        self._log = log
        self._pattern = pattern
        self._position = 0
        self._rest = b""

    def is_found(self) -> bool:
        """Whether the part of the log that is new since the last call has the pattern."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._position)
                new = file.read()
        except OSError:
            return False
        self._position += len(new)
        # A line may be written in parts.
        text = self._rest + new
        self._rest = text[text.rfind(b"\n") + 1 :][-_MAX_LINE_BYTES:]
        return self._pattern.search(text.decode("utf-8", errors="replace")) is not None


class Instance:
    """A container from its start to its end.

    Args:
        spec: The container to start.
        on_change: Called after each change of ``state``, in the thread that polls.

    Attributes:
        spec: The container.
        target: The container as the runtime API sees it.
        state: ``starting``, ``ready``, ``unhealthy`` (was ready; /ping fails now) or ``failed``.
        reason: One sentence on why it failed.
    """

    def __init__(
        self, spec: ContainerSpec, *, on_change: Callable[[Instance], None] = lambda _: None
    ) -> None:
        self.spec = spec
        self.target = Target(f"http://127.0.0.1:{spec.port}", "Creating")
        self.state, self.reason = "starting", ""
        self._on_change = on_change
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._poller: threading.Thread | None = None
        self._container: subprocess.Popen[bytes] | None = None
        self._was_ready = False
        self._load_errors = LogSearch(spec.log, _HANDLER_NOT_LOADED)

    def start(self) -> None:
        """Start the container, and poll its /ping."""
        self._container = launchers.start_container(self.spec)
        self._poller = threading.Thread(
            target=self._poll, args=(self._container,), daemon=True, name=f"poll {self.spec.run_dir.name}"
        )
        self._poller.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the container is ready; false if it fails or the time is over."""
        self._settled.wait(timeout_s)
        return self.state == "ready"

    def stop(self) -> None:
        """End every process of the container. One that was never ready has no calls to finish."""
        self._stopping.set()
        self._settled.set()
        if self._was_ready:
            processes.stop(self.spec.run_dir)
        else:
            processes.kill(self.spec.run_dir)
        if self._poller and self._poller is not threading.current_thread():
            self._poller.join(2 * _PING_LIMIT_S)
        if self._container:
            # One that a device holds survives SIGKILL; ``processes.kill`` has waited for it already.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._container.wait(_REAP_S)
        # The compiled modules of this container's code, which no other container uses.
        folders.delete(paths.bytecode() / self.spec.base_dir.relative_to("/"))

    def _poll(self, container: subprocess.Popen[bytes]) -> None:
        """Poll /ping, as SageMaker does: only /ping tells whether the container is ready or lost."""
        answered = time.monotonic()
        while not self._stopping.is_set():
            status = self._ping()
            now = time.monotonic()
            answered = answered if status is None else now
            if self._stopping.is_set():
                return
            if status == 200:
                self._was_ready = True
                self._set("ready")
            elif self._was_ready:
                self._set("unhealthy")
                if now - answered > _LOST_S and not processes.has_model_server(self.spec.run_dir):
                    failure = f"the model server has ended, and /ping has not answered for {_LOST_S:g} s"
                    self._set("failed", f"{failure}; {last_error(self.spec.log)}")
                    return
            elif failure := self._find_failure(container):
                self._set("failed", failure)
                return
            self._stopping.wait(_RUNNING_INTERVAL_S if self._was_ready else _STARTING_INTERVAL_S)

    def _ping(self) -> int | None:
        """The status of GET /ping; None without an answer in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.spec.port, timeout=_PING_LIMIT_S)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _find_failure(self, container: subprocess.Popen[bytes]) -> str:
        """Say why the container will never be ready; empty if it may be.

        On AWS such a container is reported after its start's time-out only.
        """
        if (code := container.poll()) is not None:
            return f"the model server ended with status {code}; {last_error(self.spec.log)}"
        supervisor = SupervisorState.read(self.spec.run_dir / "inf2kit")
        if supervisor is not None and supervisor.state == "failed":
            return str(supervisor.reason)
        if self._load_errors.is_found():
            return f"inference.py could not be loaded; {last_error(self.spec.log)}"
        return ""

    def _set(self, state: str, reason: str = "") -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self.target.status = {"ready": "InService", "failed": "Failed"}.get(state, self.target.status)
        if state in ("ready", "failed"):
            self._settled.set()
        self._on_change(self)


def last_error(log: Path) -> str:
    """The last error in a log, or the log's path if it has none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    errors = _ERROR.findall(text) or _MESSAGE.findall(text)
    return f"its log says: {errors[-1].strip()}" if errors else f"see its log, {log}"
