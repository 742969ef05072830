"""The supervisor, one per endpoint: it keeps the engines and the gateway running until the model server ends.

``watchdog`` starts it as ``python -m inf2kit.serving.supervision.supervisor MODEL_DIR MODEL_SERVER_PID``.
It ends at once if another supervisor holds the endpoint's lock.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import CODE, VENDOR
from inf2kit.serving.log import log
from inf2kit.serving.settings import Settings, run_dir
from inf2kit.serving.supervision.engine_pool import EnginePool
from inf2kit.serving.supervision.gateway_process import GatewayProcess
from inf2kit.serving.supervision.heartbeat import ENGINES, GATEWAY, Heartbeat
from inf2kit.serving.supervision.processes import start_child
from inf2kit.serving.supervision.retried import Retried
from inf2kit.serving.supervision.run_state import SupervisorState

_POLL_S = 0.05
_LOCK_PATIENCE_S = 1.0
#: Seconds without a look at the others after which their silence is not counted: a paused container makes no
#: progress, and a supervisor that continues first would end engines that are about to.
_PAUSED_S = 2.0


class Supervisor:
    """Watches the engines and the gateway of one endpoint.

    Args:
        settings: The endpoint's settings.
        model_server: The process to end with.
    """

    def __init__(self, settings: Settings, model_server: psutil.Process) -> None:
        self._model_server = model_server
        self._engines = EnginePool(settings)
        heartbeat = Heartbeat.create()
        self._heartbeats = [*self._engines.heartbeats, heartbeat]
        self._gateway = GatewayProcess(
            partial(
                start_child,
                "inf2kit.serving.gateway.gateway",
                str(settings.model_dir),
                (CODE, VENDOR),
                {ENGINES: self._engines.heartbeats, GATEWAY: [heartbeat]},
            ),
            heartbeat,
        )
        # A gateway is needed while no engine runs, too: it answers with 503.
        self._watch_gateway = Retried("gateway", self._gateway.watch) if settings.gateway_address else None

    def run(self) -> None:
        """Supervise until the model server ends."""
        looked_at = time.monotonic()
        try:
            while _is_alive(self._model_server):
                looked_at = self._excuse_pauses(looked_at)
                reason = self._engines.watch()
                if reason is not None:
                    self._gateway.kill()
                    self._engines.kill()
                    message = _log_failure(reason)
                    self._engines.record_state("failed", message)
                    _wait_for_end(self._model_server)
                elif self._watch_gateway:
                    self._watch_gateway()
                time.sleep(_POLL_S)
            self._gateway.drain()
        finally:
            self._gateway.kill()
            self._engines.kill()
            self._engines.record_state("ended")

    def _excuse_pauses(self, looked_at: float) -> float:
        """Forgive the others their silence while this process did not run, and return the time."""
        now = time.monotonic()
        if now - looked_at > _PAUSED_S:
            log("supervisor", f"paused for {now - looked_at:.0f} s; silence in that time is not counted")
            for heartbeat in self._heartbeats:
                heartbeat.excuse()
        return now


def _log_failure(reason: str) -> str:
    """Log that the model cannot be loaded, and return the line."""
    message = f"cannot load the model: {reason}"
    log("supervisor", message)
    return message


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait_for_end(process: psutil.Process) -> None:
    while _is_alive(process):
        time.sleep(_POLL_S)


def lock_path(run_dir: Path) -> Path:
    """The file whose lock the living supervisor holds."""
    return run_dir / "supervisor.lock"


def _take(lock: IO[str]) -> bool:
    """Take the endpoint's lock; False if another supervisor holds it."""
    give_up_at = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Workers hold the lock for a moment when they check it; only a supervisor holds it for longer.
            if time.monotonic() > give_up_at:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _redirect_output(model_server: psutil.Process) -> None:
    """Write to the model server's standard output, which is the endpoint's log.

    Where there is no /proc, write to a file in the run directory.
    """
    try:
        log_file = os.open(f"/proc/{model_server.pid}/fd/1", os.O_WRONLY | os.O_APPEND)
    except OSError:
        log_file = os.open(run_dir() / "engine.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log_file, stream.fileno())
    os.close(log_file)


def main(model_dir: str, model_server_pid: str) -> None:
    """Supervise the endpoint of the model in ``model_dir``, unless another process does."""
    with open(lock_path(run_dir()), "w") as lock:  # noqa: PTH123
        if not _take(lock):
            return
        try:
            model_server = psutil.Process(int(model_server_pid))
        except psutil.NoSuchProcess:
            return
        _redirect_output(model_server)
        try:
            settings = Settings.read(model_dir)
        except ModelDirectoryError as error:
            SupervisorState("failed", _log_failure(str(error)), 0, 0).write(run_dir())
            _wait_for_end(model_server)
            return
        Supervisor(settings, model_server).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
