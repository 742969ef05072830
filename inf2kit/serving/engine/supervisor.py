"""The supervisor: one per endpoint. It starts the engine and the gateway, keeps both running, and ends with
the model server.

Run as ``python -m inf2kit.serving.engine.supervisor MODEL_DIR MODEL_SERVER_PID``; ``watchdog`` does.
It ends at once when another one holds the endpoint's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import CODE, VENDOR
from inf2kit.serving.engine.heartbeat import ENGINE, GATEWAY, Heartbeat
from inf2kit.serving.engine.processes import (
    BUSY,
    OPENED_FILE,
    REASON_FILE,
    STATE_FILE,
    TERMINAL,
    next_wait_s,
    python_path,
)
from inf2kit.serving.engine.settings import Settings, run_dir

_POLL_S = 0.05
#: A first engine that ends so often in a row while loading is not started again. Where one was ready before,
#: something is short for a while, and it is tried for as long as the container lives.
_MAX_FAILED_STARTS = 3
_LOCK_PATIENCE_S = 1.0
#: Seconds that an engine may find the device held before it was ever ready. A container has its devices for
#: itself: what holds one for longer is no engine of before, and the wait would be paid for.
_BUSY_LIMIT_S = 180.0
#: Seconds that a load may take at least, once one has succeeded.
_LEAST_LOAD_LIMIT_S = 600.0
#: Seconds in which a stuck engine writes its stacks.
_STACKS_S = 0.5
#: Seconds in which a killed process ends, unless the kernel cannot break off what it does with a device.
_KILLED_S = 10.0
#: Seconds that the gateway has, when the model server has ended, until its calls are over. SageMaker kills a
#: container 30 s after it told it to end.
_DRAIN_S = 28.0


class Supervisor:
    """Watches an engine and a gateway.

    Args:
        model_dir: The model package.
        model_server: The process to end with.
        log: Where engine and gateway write.
    """

    def __init__(self, model_dir: str, model_server: psutil.Process, log: IO[bytes]) -> None:
        self._model_dir = model_dir
        self._run_dir = run_dir()
        self._model_server = model_server
        self._log_file = log
        self._engine: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0
        self._restarts = 0
        self._held = 0
        self._heartbeat, self._gateway_heartbeat = Heartbeat.create(), Heartbeat.create()
        # A supervisor of before may have had one; the gateway's mark is from then.
        self._was_ready, self._ever_ready = False, (self._run_dir / OPENED_FILE).exists()
        self._start_wait_s = 0.0
        self._load_began = self._ready_at = self._longest_load_s = 0.0
        self._retries: dict[str, tuple[float, float]] = {}
        self._start_again_at = 0.0
        self._busy_since: float | None = None
        self._busy_wait_s = 0.0
        self._killed_at: float | None = None
        self._parked = False
        self._gateway_began = 0.0
        self._gateway_wait_s = 0.0

    def run(self, settings: Settings) -> None:
        """Supervise until the model server ends."""
        try:
            while self._model_server_lives():
                self._attempt("engine", self._watch_engine)
                # Also while no engine runs: somebody has to say so.
                if settings.gateway_address is not None and not self._parked:
                    self._attempt("gateway", self._watch_gateway)
                time.sleep(_POLL_S)
            self._drain()
        finally:
            for process in (self._gateway, self._engine):
                if process is not None:
                    process.kill()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_KILLED_S)
            self._write_state("ended")

    def park(self, reason: str) -> None:
        """A fault that starting again will not mend: say so once, stay not ready, wait for the end."""
        self._parked = True
        sentence = f"cannot load the model: {reason}"
        self.log(sentence)
        self._write_state("failed", sentence)
        while self._model_server_lives():
            time.sleep(_POLL_S)

    def log(self, message: str) -> None:
        """One line in the endpoint's log."""
        with contextlib.suppress(OSError):
            self._log_file.write(f"inf2kit supervisor: {message}\n".encode())
            self._log_file.flush()

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        """Do what the system may refuse for a while: a fork without memory ends nothing that runs."""
        retry_at, wait_s = self._retries.get(what, (0.0, 0.0))
        if time.monotonic() < retry_at:
            return
        try:
            action()
            self._retries.pop(what, None)
        except OSError as error:
            wait_s = next_wait_s(wait_s, lived_s=0.0)
            self._retries[what] = (time.monotonic() + wait_s, wait_s)
            self.log(f"the {what} cannot be looked after ({error}); trying again in {wait_s:g} s")

    def _drain(self) -> None:
        """The model server was told to end, or has crashed: the gateway ends the calls that are inside."""
        if self._gateway is None:
            return
        self.log("the model server has ended; no new calls are taken, and those inside are ended")
        self._gateway.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._gateway.wait(_DRAIN_S)

    def _watch_engine(self) -> None:
        now = time.monotonic()
        if self._engine is None:
            if now >= self._start_again_at:
                self._write_state("starting")
                self._heartbeat.clear()
                (self._run_dir / REASON_FILE).unlink(missing_ok=True)
                self._engine = self._start("inf2kit.serving.engine.server", CODE)
                self._load_began = now
                self._killed_at = None
            return
        status = self._engine.poll()
        if status is None:
            if self._killed_at is not None:
                if now > self._killed_at + _KILLED_S:
                    self.log("the engine was killed and does not end: its device does not let it go")
                    self._killed_at = math.inf
            elif self._heartbeat.stalled:
                silent_s = self._heartbeat.silent_s
                self._end_stuck(self._engine, f"no step has ended for {silent_s:.0f} s")
            elif self._heartbeat.serving and not self._was_ready:
                self._was_ready = self._ever_ready = True
                self._ready_at = now
                self._longest_load_s = max(self._longest_load_s, now - self._load_began)
                self._write_state("ready")
            elif (
                not self._heartbeat.serving
                and self._longest_load_s
                and now > self._load_began + self._load_limit_s
            ):
                self._end_stuck(self._engine, f"it has been loading for {now - self._load_began:.0f} s")
            return
        self._engine = None
        if status == TERMINAL:
            self._stop_gateway()
            self.park(self._reason())
            return
        if status == BUSY:
            self._wait_for_the_device(now)
            return
        self._busy_wait_s, self._busy_since = 0.0, None
        was_serving = self._heartbeat.serving
        self._failed_starts = 0 if was_serving else self._failed_starts + 1
        self._heartbeat.clear()
        self._was_ready = False
        self._restarts += 1
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        if self._failed_starts >= _MAX_FAILED_STARTS and not self._ever_ready:
            self._stop_gateway()
            why = self._reason() if status > 0 else "signal 9 is often a lack of memory: choose more of it"
            times = f"{self._failed_starts} times while loading"
            self.park(f"the engine ended {times}, the last time with {ended}; {why}")
            return
        # One that has served ended by accident, unless it had only just begun to.
        served_s = now - self._ready_at if was_serving else 0.0
        wait_s = self._start_wait_s = next_wait_s(self._start_wait_s, served_s)
        self._start_again_at = now + wait_s
        self.log(
            f"the engine ended with {ended}; it is started again" + (f" in {wait_s:g} s" if wait_s else "")
        )

    def _wait_for_the_device(self, now: float) -> None:
        """Who holds the device may be an engine of before, on its way out."""
        self._busy_since = self._busy_since or now
        if not self._ever_ready and now - self._busy_since > _BUSY_LIMIT_S:
            self._stop_gateway()
            self.park(
                f"{self._reason()}; it was held for {now - self._busy_since:.0f} s, so it will not be free"
            )
            return
        self._held += 1
        self._busy_wait_s = next_wait_s(self._busy_wait_s, lived_s=0.0)
        self._start_again_at = now + self._busy_wait_s
        wait_s = self._busy_wait_s
        self.log(f"waiting for the device: {self._reason()}; the engine is started again in {wait_s:g} s")
        self._write_state("waiting for the device", self._reason())

    @property
    def _load_limit_s(self) -> float:
        """Seconds that a load may take, from how long one took. A first one may take as long as it likes."""
        return max(_LEAST_LOAD_LIMIT_S, 3 * self._longest_load_s)

    def _end_stuck(self, engine: subprocess.Popen[bytes], why: str) -> None:
        """An engine whose device call does not return: its stacks into the log, then its end."""
        self.log(f"the engine is stuck: {why}; its stacks follow, and it is started again")
        engine.send_signal(signal.SIGUSR1)
        time.sleep(_STACKS_S)
        engine.kill()
        # Not waited for: the gateway, and the end of the container, need looking after meanwhile.
        self._killed_at = time.monotonic()

    def _reason(self) -> str:
        """What the engine left before it ended."""
        try:
            return (self._run_dir / REASON_FILE).read_text(encoding="utf-8")
        except OSError:
            return "the engine could not write why; standard error has it"

    def _watch_gateway(self) -> None:
        now = time.monotonic()
        if self._gateway is not None and self._gateway.poll() is None and self._gateway_heartbeat.stalled:
            self.log(f"the gateway is stuck: nothing for {self._gateway_heartbeat.silent_s:.0f} s")
            self._gateway.kill()
            self._gateway.wait()
        if self._gateway is not None and self._gateway.poll() is not None:
            self._gateway_wait_s = next_wait_s(self._gateway_wait_s, now - self._gateway_began)
            self.log(f"the gateway ended with status {self._gateway.returncode}; it is started again")
            self._gateway = None
        if self._gateway is None and now >= self._gateway_began + self._gateway_wait_s:
            self._gateway_began = now
            self._gateway_heartbeat.clear()
            self._gateway = self._start("inf2kit.serving.engine.gateway", CODE, VENDOR)

    def _stop_gateway(self) -> None:
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()
            self._gateway = None

    def _start(self, module: str, *path: Path) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(*path),
            "PYTHONUNBUFFERED": "1",
            ENGINE: str(self._heartbeat.fd),
            GATEWAY: str(self._gateway_heartbeat.fd),
        }
        # The child ends when this pipe closes, that is when this process ends, however it ends.
        return subprocess.Popen(
            [sys.executable, "-m", module, self._model_dir],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log_file,
            stderr=self._log_file,
            pass_fds=(self._heartbeat.fd, self._gateway_heartbeat.fd),
        )

    def _model_server_lives(self) -> bool:
        try:
            return self._model_server.is_running() and self._model_server.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _write_state(self, state: str, reason: str | None = None) -> None:
        path = self._run_dir / STATE_FILE
        value: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "restarts": self._restarts,
            "held": self._held,
        }
        scratch = path.with_suffix(".new")
        # People and the gateway's metrics read it: a full disk must not end the endpoint.
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(value), encoding="utf-8")
            scratch.replace(path)


def lock_path(run_dir: Path) -> Path:
    """The file whose lock one living supervisor holds."""
    return run_dir / "supervisor.lock"


def _take(lock: IO[str]) -> bool:
    """Take the endpoint's lock; false where another supervisor holds it."""
    ends = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Workers look at the lock for a moment; only a supervisor holds it for longer.
            if time.monotonic() > ends:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def open_log(model_server: psutil.Process) -> IO[bytes]:
    """The model server's own standard output, so that the engine's lines are in the endpoint's log.

    Where there is no /proc, a file in the run directory.
    """
    try:
        return open(f"/proc/{model_server.pid}/fd/1", "ab", buffering=0)  # noqa: PTH123
    except OSError:
        return open(run_dir() / "engine.log", "ab", buffering=0)  # noqa: PTH123


def main(model_dir: str, model_server_pid: str) -> None:
    """Supervise the endpoint of the model in ``model_dir``, unless another process does."""
    with open(lock_path(run_dir()), "w") as lock:  # noqa: PTH123
        if not _take(lock):
            return
        try:
            model_server = psutil.Process(int(model_server_pid))
        except psutil.NoSuchProcess:
            return
        log = open_log(model_server)
        os.dup2(log.fileno(), sys.stderr.fileno())
        supervisor = Supervisor(model_dir, model_server, log)
        try:
            supervisor.run(Settings.read(model_dir))
        except ModelDirectoryError as error:
            supervisor.park(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
