"""What a worker does for the supervisor: see that there is always one.

The supervisor holds a file lock as long as it lives, and the kernel takes the lock back however it ends. So
waiting for the lock is waiting for its end, without polling.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import CODE
from inf2kit.serving.engine.processes import model_server, next_wait_s, python_path, say
from inf2kit.serving.engine.settings import run_dir
from inf2kit.serving.engine.supervisor import lock_path

_once = threading.Lock()
#: What to guard, from the first call on: the model directory and the model server's pid. A worker that is
#: forked later takes them along, since its own ancestors may be gone by then.
_guarded: tuple[Path, int] | None = None


def ensure_supervisor(model_dir: str | Path) -> None:
    """Start a supervisor if there is none, now and whenever there is none later. Returns at once.

    Workers that are forked from this process guard too: any of them may outlive the others.
    """
    global _guarded
    with _once:
        if _guarded is not None:
            return
        _guarded = (Path(model_dir), model_server().pid)
    os.register_at_fork(after_in_child=_begin)
    _begin()


def _begin() -> None:
    threading.Thread(target=_guard, daemon=True, name="supervisor-guard").start()


def _guard() -> None:
    assert _guarded is not None  # noqa: S101
    model_dir, server_pid = _guarded
    wait_s = 0.0
    while psutil.pid_exists(server_pid):
        began = time.monotonic()
        try:
            with _locked(run_dir() / "guard.lock"):
                # All guards wake up at once; the first one in starts, the others find it done.
                if not _is_held(lock_path(run_dir())):
                    time.sleep(wait_s)
                    _start(model_dir, server_pid)
            with _locked(lock_path(run_dir())):
                pass  # it has ended
        except (OSError, ModelDirectoryError) as error:
            say("guard", f"the supervisor cannot be started ({error}); trying again")
        wait_s = next_wait_s(wait_s, time.monotonic() - began - wait_s)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Given back by hand: a worker forked meanwhile holds a copy of this file, and with it the lock.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _start(model_dir: Path, server_pid: int) -> None:
    command = [sys.executable, "-m", "inf2kit.serving.engine.supervisor", str(model_dir), str(server_pid)]
    # Not subprocess: it waits for a pipe to close, and a worker that is forked from this process at the same
    # time would keep that pipe open for ever.
    child = os.posix_spawn(
        sys.executable,
        command,
        {**_environment_of(server_pid), "PYTHONPATH": python_path(CODE)},
        # Not the worker's output: the model server reads it and waits for its end.
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)],
        # Of a session of its own: the end of this worker is not the end of the engine.
        setsid=True,
    )
    while not _has_ended(child):
        if _is_held(lock_path(run_dir())):
            _tell_where_the_log_is(server_pid)
            # Reap it whenever it ends; this process may live long.
            threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
            return
        time.sleep(0.05)


def _tell_where_the_log_is(server_pid: int) -> None:
    """A standard output that is a socket cannot be opened by another process."""
    try:
        os.close(os.open(f"/proc/{server_pid}/fd/1", os.O_WRONLY | os.O_APPEND))
    except OSError as error:
        say("guard", f"the engine's lines are in {run_dir() / 'engine.log'} of the container ({error})")


def _environment_of(server_pid: int) -> dict[str, str]:
    """The environment that the container began with, or that of the model server.

    A worker's is changed by what it imports, and the model server's by what process 1 has imported. The model
    server also tells its workers to compute on one thread, and the engine has all of them.
    """
    for pid in (1, server_pid):
        with suppress(psutil.Error, OSError):
            environment: dict[str, str] = psutil.Process(pid).environ()
            # Where there is no container, process 1 is somebody else's.
            if "SAGEMAKER_PROGRAM" in environment:
                return environment
    return dict(os.environ)


def _has_ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] != 0


def _is_held(path: Path) -> bool:
    with open(path, "w") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
