"""The supervisor, one per endpoint: it keeps the engine and the gateway running until the model server ends.

``watchdog`` starts it as ``python -m inf2kit.serving.supervision.supervisor MODEL_DIR MODEL_SERVER_PID``.
It ends at once if another supervisor holds the endpoint's lock.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import CODE, VENDOR
from inf2kit.serving.log import log
from inf2kit.serving.settings import Settings, run_dir
from inf2kit.serving.supervision.backoff import Backoff
from inf2kit.serving.supervision.engine_process import EngineProcess
from inf2kit.serving.supervision.gateway_process import GatewayProcess
from inf2kit.serving.supervision.heartbeat import ENGINE, GATEWAY, Heartbeat
from inf2kit.serving.supervision.processes import start_child

_POLL_S = 0.05
_LOCK_PATIENCE_S = 1.0


class Supervisor:
    """Watches an engine and a gateway.

    Args:
        model_dir: The model package.
        model_server: The process to end with.
    """

    def __init__(self, model_dir: str, model_server: psutil.Process) -> None:
        self._model_server = model_server
        heartbeats = {ENGINE: Heartbeat.create(), GATEWAY: Heartbeat.create()}
        start = partial(start_child, model_dir=model_dir, heartbeats=heartbeats)
        self._engine = EngineProcess(
            partial(start, "inf2kit.serving.engine.server", path=(CODE,)), heartbeats[ENGINE], run_dir()
        )
        self._gateway = GatewayProcess(
            partial(start, "inf2kit.serving.gateway.gateway", path=(CODE, VENDOR)), heartbeats[GATEWAY]
        )
        self._watch_engine = _Retried("engine", self._engine_step)
        self._watch_gateway = _Retried("gateway", self._gateway.watch)
        self._has_failed = False

    def run(self, settings: Settings) -> None:
        """Supervise until the model server ends."""
        try:
            while self._is_model_server_alive():
                self._watch_engine()
                # A gateway is needed while no engine runs, too: it answers with 503.
                if settings.gateway_address is not None and not self._has_failed:
                    self._watch_gateway()
                time.sleep(_POLL_S)
            self._gateway.drain()
        finally:
            self._gateway.kill()
            self._engine.kill()
            self._engine.record_state("ended")

    def fail(self, reason: str) -> None:
        """Report that the model cannot be loaded, and wait for the end of the model server."""
        self._has_failed = True
        message = f"cannot load the model: {reason}"
        log("supervisor", message)
        self._engine.record_state("failed", message)
        while self._is_model_server_alive():
            time.sleep(_POLL_S)

    def _engine_step(self) -> None:
        reason = self._engine.watch()
        if reason is not None:
            self._gateway.kill()
            self.fail(reason)

    def _is_model_server_alive(self) -> bool:
        try:
            return self._model_server.is_running() and self._model_server.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class _Retried:
    """An action that the system may refuse for a while, such as a fork without memory.

    Args:
        name: What the action looks after, for the log.
        action: The action; it is called again later if it raises OSError.
    """

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action
        self._backoff = Backoff()
        self._retry_at = 0.0

    def __call__(self) -> None:
        """Call the action, unless it failed a moment ago."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._action()
            self._backoff.reset()
        except OSError as error:
            wait_s = self._backoff.update(lived_s=0.0)
            self._retry_at = time.monotonic() + wait_s
            log(
                "supervisor",
                f"the {self._name} cannot be looked after ({error}); trying again in {wait_s:g} s",
            )


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
        supervisor = Supervisor(model_dir, model_server)
        try:
            supervisor.run(Settings.read(model_dir))
        except ModelDirectoryError as error:
            supervisor.fail(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
