"""What a worker does for the supervisor: see that there is always one.

The supervisor holds a file lock as long as it lives, and the kernel takes the lock back however it ends. So
waiting for the lock is waiting for its end, without polling.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from engine.lifetime import model_server
from engine.settings import run_dir
from engine.supervisor import HOLDS_THE_LOCK, lock_path

_started = threading.Lock()
_guarding = False


def ensure_supervisor(model_dir: str | Path) -> None:
    """Start a supervisor if there is none, now and whenever there is none later. Returns at once."""
    global _guarding
    with _started:
        if _guarding:
            return
        _guarding = True
    threading.Thread(target=_guard, args=(Path(model_dir),), daemon=True, name="supervisor-guard").start()


def _guard(model_dir: Path) -> None:
    server_pid = model_server().pid
    while True:
        _wait_until_free(lock_path(run_dir()))
        _start(model_dir, server_pid)


def _wait_until_free(path: Path) -> None:
    with open(path, "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Given back by hand: a worker forked meanwhile holds a copy of this file, and with it the lock.
        fcntl.flock(lock, fcntl.LOCK_UN)


def _start(model_dir: Path, server_pid: int) -> None:
    code = Path(__file__).resolve().parent.parent
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "engine.supervisor", str(model_dir), str(server_pid)],
        env={**os.environ, "PYTHONPATH": str(code)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Of a session of its own: the end of this worker is not the end of the engine.
        start_new_session=True,
    )
    assert supervisor.stdout is not None  # noqa: S101
    with supervisor.stdout:
        held = supervisor.stdout.readline() == HOLDS_THE_LOCK
    # Reap it whenever it ends; this process may live long.
    threading.Thread(target=supervisor.wait, daemon=True).start()
    if not held:
        # Another worker's was first, or another worker is just looking at the lock.
        time.sleep(0.05)
