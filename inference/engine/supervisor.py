"""The supervisor: one per endpoint. It starts the engine and the gate, keeps both running, and ends with
the model server.

Run as ``python -m engine.supervisor MODEL_DIR MODEL_SERVER_PID``; ``engine.guard`` does. It writes one line
to standard output when it holds the endpoint's lock, and ends at once when another one does.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import psutil

from engine.lifetime import READY_FILE, TERMINAL
from engine.settings import Settings
from inf2kit.errors import ModelDirectoryError

_POLL_S = 0.05
#: An engine that ends so often in a row without ever having been ready is not started again.
_MAX_FAILED_STARTS = 3
_BACKOFF_S = (0.0, 1.0, 5.0)
HOLDS_THE_LOCK = b"holds the lock\n"
STATE_FILE = "supervisor.json"


class Supervisor:
    """Watches an engine and a gate.

    Args:
        settings: The endpoint's settings.
        model_server: The process to end with.
        log: Where engine and gate write.
    """

    def __init__(self, settings: Settings, model_server: psutil.Process, log: IO[bytes]) -> None:
        self._settings = settings
        self._model_server = model_server
        self._log_file = log
        self._engine: subprocess.Popen[bytes] | None = None
        self._gate: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0
        self._restarts = 0
        self._start_again_at = 0.0

    def run(self) -> None:
        """Supervise until the model server ends."""
        try:
            while self._model_server_lives():
                self._watch_engine()
                self._watch_gate()
                time.sleep(_POLL_S)
        finally:
            for process in (self._gate, self._engine):
                if process is not None:
                    process.kill()
                    process.wait()
            self._write_state("ended")

    def park(self, reason: str) -> None:
        """A fault that starting again will not mend: say so once, stay not ready, end with the model server."""
        self.log(f"the engine is not started again: {reason}")
        self._write_state("failed", reason)
        while self._model_server_lives():
            time.sleep(_POLL_S)

    def log(self, message: str) -> None:
        """One line in the endpoint's log."""
        self._log_file.write(f"inf2kit supervisor: {message}\n".encode())
        self._log_file.flush()

    def _watch_engine(self) -> None:
        now = time.monotonic()
        if self._engine is None:
            if now >= self._start_again_at:
                self._write_state("starting")
                self._engine = self._start("engine.server")
            return
        status = self._engine.poll()
        if status is None:
            return
        self._engine = None
        if status == TERMINAL:
            self._stop_gate()
            self.park("it cannot load the model, as its line above says")
            return
        ready = self._settings.run_dir / READY_FILE
        was_ready = ready.exists()
        ready.unlink(missing_ok=True)
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        self._restarts += 1
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._stop_gate()
            self.park(
                f"it ended {self._failed_starts} times while loading, the last time with {ended}; signal 9 is "
                "often a lack of memory: choose an instance with more host memory"
            )
            return
        wait_s = _BACKOFF_S[self._failed_starts]
        self._start_again_at = now + wait_s
        self.log(f"the engine ended with {ended}; it is started again" + (f" in {wait_s:g} s" if wait_s else ""))

    def _watch_gate(self) -> None:
        if self._settings.gate_address is None or self._engine is None:
            return
        if self._gate is not None and self._gate.poll() is not None:
            self.log(f"the gate ended with status {self._gate.returncode}; it is started again")
            self._gate = None
        if self._gate is None:
            self._gate = self._start("engine.gate")

    def _stop_gate(self) -> None:
        if self._gate is not None:
            self._gate.kill()
            self._gate.wait()
            self._gate = None

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        code = Path(__file__).resolve().parent.parent
        environment = {**os.environ, "PYTHONPATH": f"{code}{os.pathsep}{code / 'vendor'}", "PYTHONUNBUFFERED": "1"}
        # The child ends when this pipe closes, that is when this process ends, however it ends.
        return subprocess.Popen(
            [sys.executable, "-m", module, str(self._settings.model_dir)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log_file,
            stderr=self._log_file,
        )

    def _model_server_lives(self) -> bool:
        try:
            return self._model_server.is_running() and self._model_server.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _write_state(self, state: str, reason: str | None = None) -> None:
        path = self._settings.run_dir / STATE_FILE
        value: dict[str, Any] = {"state": state, "reason": reason, "restarts": self._restarts}
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(value), encoding="utf-8")
        scratch.replace(path)


def lock_path(run_dir: Path) -> Path:
    """The file whose lock one living supervisor holds."""
    return run_dir / "supervisor.lock"


def open_log(model_server: psutil.Process) -> IO[bytes]:
    """The model server's own standard output, so that the engine's lines are in the endpoint's log.

    A worker's output would not do: the model server reads it, and it ends with the worker.
    """
    try:
        return open(f"/proc/{model_server.pid}/fd/1", "ab", buffering=0)  # noqa: SIM115, PTH123
    except OSError:
        return open(sys.stderr.fileno(), "ab", buffering=0, closefd=False)  # noqa: SIM115, PTH123


def main(model_dir: str, model_server_pid: str) -> None:
    """Supervise the endpoint of the model in ``model_dir``, unless another process does."""
    from engine.settings import run_dir

    with open(lock_path(run_dir()), "w") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        sys.stdout.buffer.write(HOLDS_THE_LOCK)
        sys.stdout.buffer.flush()
        try:
            model_server = psutil.Process(int(model_server_pid))
        except psutil.NoSuchProcess:
            return
        log = open_log(model_server)
        try:
            Supervisor(Settings.read(model_dir), model_server, log).run()
        except ModelDirectoryError as error:
            log.write(f"inf2kit supervisor: cannot load the model: {error}\n".encode())
            while model_server.is_running() and model_server.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_POLL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
