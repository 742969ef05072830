"""One instance: a container's processes, and what ``/ping`` says of them until they are stopped."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inf2kit import paths
from inf2kit.rehearsal import folders
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.runtime.server import Target

#: SageMaker gives /ping two seconds.
_PING_LIMIT_S = 2.0
_STARTING_INTERVAL_S, _RUNNING_INTERVAL_S = 0.1, 0.5
#: A container without its model server is lost when /ping has not answered for so long. On AWS it lives on,
#: and how long SageMaker waits is not documented.
_LOST_S = 2.0
#: The model server's traceback of a handler that could not be loaded. It then goes on as if it had been.
_NOT_LOADED = re.compile(r'mms/model_loader\.py", line \d+, in load')
#: The model server logs an exception's message before its traceback, and may cut the traceback off.
_MESSAGE = re.compile(r"^(?:.* - )?(.+)\n.*Traceback \(most recent call last\)", re.MULTILINE)
#: The last line of a traceback.
_ERROR = re.compile(r"\b([A-Za-z_.]*(?:Error|Exception)\b: .*)")


@dataclass(eq=False)
class Instance:
    """A container from its start to its end.

    Attributes:
        base_dir: Stands in for ``/opt/ml``, with the model directory in it.
        run_dir: Stands in for the image's ``TEMP``.
        variables: The container's environment.
        port: Stands in for port 8080.
        log: What CloudWatch would hold.
        changed: Called after each change of ``state``, by the thread that watches.
        target: Where the front finds it.
        state: ``starting``, ``ready``, ``unhealthy`` (was ready, and /ping says no) or ``failed``.
        reason: Why it failed, a sentence.
    """

    base_dir: Path
    run_dir: Path
    variables: Mapping[str, str]
    port: int
    log: Path
    changed: Callable[[Instance], None] = lambda _: None
    target: Target = field(init=False)
    state: str = "starting"
    reason: str = ""

    def __post_init__(self) -> None:
        self.target = Target(f"http://127.0.0.1:{self.port}", "Creating")
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._watcher: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._was_ready = False

    def start(self) -> None:
        """Start the container, and watch it."""
        self._process = processes.start(
            self.base_dir,
            self.run_dir,
            self.variables,
            port=self.port,
            log=self.log,
        )
        self._watcher = threading.Thread(target=self._watch, daemon=True, name=f"watch {self.run_dir.name}")
        self._watcher.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is ready; false when it has failed, or not in time."""
        self._settled.wait(timeout_s)
        return self.state == "ready"

    def stop(self) -> None:
        """End every process of the container; one that has never served has nothing to finish."""
        self._stopping.set()
        self._settled.set()
        (processes.stop if self._was_ready else processes.kill)(self.run_dir)
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join(2 * _PING_LIMIT_S)
        if self._process:
            self._process.wait()
        # Where Python keeps what it has compiled of this container's code, and of no other's.
        folders.delete(paths.bytecode() / self.base_dir.relative_to("/"))

    def _watch(self) -> None:
        """Follow /ping, as SageMaker does: it alone says whether the container is ready, or lost."""
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
                if now - answered > _LOST_S and not processes.has_model_server(self.run_dir):
                    gone = f"the model server has ended, and /ping has not answered for {_LOST_S:g} s"
                    self._set("failed", f"{gone}; {last_words(self.log)}")
                    return
            elif reason := self._hopeless():
                self._set("failed", reason)
                return
            self._stopping.wait(_RUNNING_INTERVAL_S if self._was_ready else _STARTING_INTERVAL_S)

    def _ping(self) -> int | None:
        """The status of GET /ping; None where nothing answers, or not in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PING_LIMIT_S)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _hopeless(self) -> str | None:
        """Why it will never serve. On AWS one waits for the time-out and reads the log; here nobody does."""
        assert self._process  # noqa: S101
        if (code := self._process.poll()) is not None:
            return f"the model server ended with status {code}; {last_words(self.log)}"
        try:
            supervisor = json.loads(
                (self.run_dir / "inf2kit" / "supervisor.json").read_text(encoding="utf-8")
            )
            if supervisor["state"] == "failed":
                return str(supervisor["reason"])
        except (OSError, ValueError):
            pass
        if _NOT_LOADED.search(self.log.read_text(encoding="utf-8", errors="replace")):
            return f"inference.py could not be loaded; {last_words(self.log)}"
        return None

    def _set(self, state: str, reason: str = "") -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self.target.status = {"ready": "InService", "failed": "Failed"}.get(state, self.target.status)
        if state in ("ready", "failed"):
            self._settled.set()
        self.changed(self)


def last_words(log: Path) -> str:
    """The last error in a log, or where the log is."""
    try:
        said = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = ""
    errors = _ERROR.findall(said) or _MESSAGE.findall(said)
    return f"its log says: {errors[-1].strip()}" if errors else f"see its log, {log}"
