"""Keep one supervisor running: each worker watches its lock, and starts a supervisor when the lock is free.

The supervisor holds a file lock as long as it lives, and the kernel releases the lock however it ends. So a
worker that blocks on the lock notices the end without polling.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import CODE
from inf2kit.serving.log import log
from inf2kit.serving.settings import run_dir
from inf2kit.serving.supervision.backoff import Backoff
from inf2kit.serving.supervision.processes import python_path
from inf2kit.serving.supervision.supervisor import lock_path


@dataclass(frozen=True)
class _Watchdog:
    """Watches the supervisor of one endpoint.

    A worker that is forked from this process inherits it, since its own ancestors may be gone by then.

    Attributes:
        model_dir: The model package.
        server_pid: The model server, with which the watch ends.
    """

    model_dir: Path
    server_pid: int

    def start(self) -> None:
        """Watch on a thread of its own."""
        threading.Thread(target=self._watch, daemon=True, name="supervisor-watchdog").start()

    def _watch(self) -> None:
        backoff = Backoff()
        while psutil.pid_exists(self.server_pid):
            began = time.monotonic()
            waited_s = 0.0
            try:
                with _locked(run_dir() / "guard.lock"):
                    # All watchdogs wake up at once: the first starts a supervisor, the others see its lock.
                    if not _is_held(lock_path(run_dir())):
                        time.sleep(backoff.wait_s)
                        waited_s = backoff.wait_s
                        self._start_supervisor()
                with _locked(lock_path(run_dir())):
                    pass  # it has ended
            except (OSError, ModelDirectoryError) as error:
                log("watchdog", f"the supervisor cannot be started ({error}); trying again")
            backoff.update(time.monotonic() - began - waited_s)

    def _start_supervisor(self) -> None:
        module = "inf2kit.serving.supervision.supervisor"
        command = [sys.executable, "-m", module, str(self.model_dir), str(self.server_pid)]
        # Not subprocess: it waits for a pipe to close, and a worker that is forked meanwhile would keep that
        # pipe open for ever.
        child = os.posix_spawn(
            sys.executable,
            command,
            {**_container_environment(self.server_pid), "PYTHONPATH": python_path(CODE)},
            # Not the worker's output: the model server reads it and waits for its end.
            file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)],
            # In a session of its own, so that the end of this worker does not end the engine.
            setsid=True,
        )
        while not _has_ended(child):
            if _is_held(lock_path(run_dir())):
                self._log_where_the_log_is()
                # Reap it whenever it ends; this process may live long.
                threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
                return
            time.sleep(0.05)

    def _log_where_the_log_is(self) -> None:
        """Name the file to which the engine logs, if the model server's output cannot be opened: a socket."""
        try:
            os.close(os.open(f"/proc/{self.server_pid}/fd/1", os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            log(
                "watchdog", f"the engine's lines are in {run_dir() / 'engine.log'} of the container ({error})"
            )


_once = threading.Lock()
_watchdog: _Watchdog | None = None


def ensure_supervisor(model_dir: str | Path) -> None:
    """Start a supervisor whenever there is none, from now on. Returns at once.

    Workers that are forked from this process do the same: any of them may outlive the others.
    """
    global _watchdog
    with _once:
        if _watchdog is not None:
            return
        _watchdog = _Watchdog(Path(model_dir), _find_model_server().pid)
    os.register_at_fork(after_in_child=_watchdog.start)
    _watchdog.start()


def _find_model_server() -> psutil.Process:
    """The model server above this process, or this process if there is none.

    A worker is a child of the Java process, or a child of the process that it was forked from.
    """
    worker = psutil.Process()
    for ancestor in worker.parents():
        if "java" in ancestor.name():
            return ancestor
    return worker


def _container_environment(server_pid: int) -> dict[str, str]:
    """The environment with which the container began, or else that of the model server.

    What a worker imports changes its environment, and what process 1 imports changes the model server's. The
    model server also tells its workers to compute on one thread, but the engine may use all of them.
    """
    for pid in (1, server_pid):
        with suppress(psutil.Error, OSError):
            environment: dict[str, str] = psutil.Process(pid).environ()
            # Outside of a container, process 1 has nothing to do with the endpoint.
            if "SAGEMAKER_PROGRAM" in environment:
                return environment
    return dict(os.environ)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Explicitly: a worker that was forked meanwhile holds a copy of the file, and with it the lock.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _is_held(path: Path) -> bool:
    with open(path, "w") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False


def _has_ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] != 0
