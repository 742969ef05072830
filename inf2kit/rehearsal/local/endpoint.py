"""One endpoint on this machine: its folder with state, environment and logs, and its host process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from inf2kit import paths
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.names import is_endpoint_name
from inf2kit.rehearsal import folders
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.container.spec import ContainerSpec
from inf2kit.rehearsal.local import ports
from inf2kit.rehearsal.local.state import EndpointState, write_status

_HOST_MODULE = "inf2kit.rehearsal.local.host"
#: The start of the name of a run directory.
RUN_DIR_PREFIX = "inf2run-"
_POLL_S = 0.1
#: macOS allows for 103 bytes; /inf2run-RANDOM and the longest name of a socket take 37.
_MAX_SOCKET_FOLDER = 66
#: Seconds for the host to end: its container has SageMaker's 30 s, and the kernel needs some more.
_STOP_S = processes.TERM_GRACE_S + 15.0


class LocalEndpoint:
    """An endpoint on this machine, whether it is up or not.

    Args:
        name: The EndpointName.

    Attributes:
        name: The EndpointName.
        folder: The endpoint's folder; it stands for the container's ``/opt/ml``.
        log: The container's log, which CloudWatch would hold.
        host_log: The output of the host process.
        kept_log: Where the log is kept after a failed start.

    Raises:
        LocalEndpointError: an endpoint cannot have this name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = paths.endpoint(name)
        self.log = self.folder / "endpoint.log"
        self.host_log = self.folder / "host.log"
        self.kept_log = paths.home() / f"{name}.log"
        self._environment = self.folder / "environment.json"

    @classmethod
    def list_all(cls) -> list[LocalEndpoint]:
        """List the endpoints that have a folder, in alphabetical order."""
        if not paths.endpoints().is_dir():
            return []
        folders = [path for path in sorted(paths.endpoints().iterdir()) if path.is_dir()]
        return [cls(folder.name) for folder in folders if is_endpoint_name(folder.name)]

    @property
    def model_dir(self) -> Path:
        """The container's model directory."""
        return self.folder / "model"

    def read_state(self) -> EndpointState | None:
        """Read the endpoint's state; None if there is no such endpoint.

        Raises:
            LocalEndpointError: it cannot be read.
        """
        return EndpointState.read(self.folder)

    def describe(self) -> EndpointState:
        """Return the endpoint's state, which is ``Failed`` if its host is gone.

        Raises:
            LocalEndpointError: there is no such endpoint, or its state cannot be read.
        """
        state = self.read_state()
        if state is None:
            known = ", ".join(endpoint.name for endpoint in self.list_all()) or "none"
            raise LocalEndpointError(
                f"there is no local endpoint {self.name!r} (there are: {known}); "
                "start one with 'inf2kit local up PRESET'"
            )
        if state.host_pid and state.host() is None:
            reason = f"its host process is gone; clean up with 'inf2kit local down {self.name}'"
            return replace(state, status="Failed", reason=reason)
        return state

    def find_log(self) -> Path:
        """Return the path of the container's log.

        Raises:
            LocalEndpointError: there is no such endpoint, or it is just starting and has no log yet.
        """
        self.describe()
        if not self.log.exists():
            raise LocalEndpointError(f"the endpoint {self.name!r} has no log yet; try again in a moment")
        return self.log

    def stop(self, *, keep_log: bool = False) -> bool:
        """Stop every process of the endpoint and delete its folder.

        Args:
            keep_log: Whether to copy the container's log to ``kept_log`` first.

        Returns:
            False if there is no such endpoint.

        Raises:
            LocalEndpointError: a process does not end even when it is killed.
        """
        with locked_endpoints():
            return self.remove(keep_log=keep_log)

    def remove(self, *, keep_log: bool = False) -> bool:
        """Do what ``stop`` does, for a caller that holds the lock."""
        hosts = self._find_hosts()
        for host, _ in hosts:
            with contextlib.suppress(psutil.Error):  # it may end on its own meanwhile
                host.send_signal(signal.SIGTERM)
                host.wait(_STOP_S)
        run_dirs = {run_dir for _, run_dir in hosts}
        with contextlib.suppress(LocalEndpointError):
            if state := self.read_state():
                run_dirs.add(Path(state.run_dir))
        for run_dir in run_dirs:
            self._end_processes(run_dir)
            shutil.rmtree(run_dir, ignore_errors=True)
        if keep_log and self.log.exists():
            shutil.copy2(self.log, self.kept_log)
        is_there = self.folder.exists()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            raise LocalEndpointError(
                f"{self.folder} cannot be deleted; is it another user's? Delete it yourself"
            )
        return is_there

    def check_is_down(self) -> None:
        """Check that no endpoint of this name is up.

        Raises:
            LocalEndpointError: one is up.
        """
        state = self.read_state()
        if state is not None and state.host() is not None:
            raise LocalEndpointError(
                f"an endpoint {self.name!r} is up already ({state.status}); "
                f"stop it with 'inf2kit local down {self.name}', or give this one another --name"
            )

    def create(self, preset: str, variables: Mapping[str, str]) -> None:
        """Reserve ports and a run directory, and write state and environment. ``folder`` must exist.

        Args:
            preset: The preset's name or path.
            variables: The container's environment.

        Raises:
            LocalEndpointError: no ports are free, or the path of temporary files is too long for sockets.
        """
        reserved: set[int] = set()
        for endpoint in self.list_all():
            with contextlib.suppress(LocalEndpointError):
                if state := endpoint.read_state():
                    reserved |= {state.runtime_port, state.gateway_port}
        check_socket_folder(Path(tempfile.gettempdir()))
        run_dir = tempfile.mkdtemp(prefix=RUN_DIR_PREFIX)
        runtime_port, gateway_port = ports.choose_ports(2, reserved)
        # Written before anything is started, so that 'down' can clean up at any time.
        EndpointState(self.name, preset, runtime_port, gateway_port, run_dir).write(self.folder)
        self._environment.write_text(json.dumps(dict(variables)), encoding="utf-8")

    def start_host(self) -> subprocess.Popen[bytes]:
        """Start the host process of the created endpoint."""
        state = self.describe()
        with self.host_log.open("ab") as log:
            host = subprocess.Popen(
                [sys.executable, "-m", _HOST_MODULE, self.name],
                env={**os.environ, "INF2KIT_HOME": str(paths.home()), MARK: state.run_dir},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        replace(state, host_pid=host.pid).write(self.folder)
        return host

    def wait_in_service(self, host: subprocess.Popen[bytes], timeout_s: float) -> EndpointState:
        """Wait until the endpoint is in service, and return its state.

        Raises:
            LocalEndpointError: it failed, its host ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.read_state()
            if state is not None and state.status == "InService":
                return state
            failure = state.reason if state is not None and state.status == "Failed" else ""
            if host.poll() is not None:
                failure = f"its host process ended: {_last_line(self.host_log)}"
            if failure or time.monotonic() > deadline:
                raise LocalEndpointError(
                    f"the endpoint {self.name!r} did not come into service: "
                    f"{failure or 'it was not ready in time'}; its whole log is kept in {self.kept_log}"
                )
            time.sleep(_POLL_S)

    def container_spec(self) -> ContainerSpec:
        """The container that the host starts.

        Raises:
            LocalEndpointError: the endpoint was not created.
        """
        state = self.describe()
        return ContainerSpec(
            base_dir=self.folder,
            run_dir=Path(state.run_dir),
            variables=json.loads(self._environment.read_text(encoding="utf-8")),
            port=state.gateway_port,
            log=self.log,
        )

    def write_status(self, status: str, reason: str) -> None:
        """Write the status, as the host does."""
        write_status(self.folder, status, reason)

    def _find_hosts(self) -> list[tuple[psutil.Process, Path]]:
        """Find the living hosts and their run directories; a state that cannot be read names none."""
        home = str(paths.home())
        return [
            (process, Path(variables[MARK]))
            for process, variables in processes.find_marked(_HOST_MODULE, self.name)
            if variables.get("INF2KIT_HOME") == home
        ]

    def _end_processes(self, run_dir: Path) -> None:
        # A killed host leaves its container; a host that has just started may start one.
        if alive := processes.stop(run_dir):
            numbers = ",".join(str(process.pid) for process in alive)
            raise LocalEndpointError(
                f"the endpoint {self.name!r} has processes that do not end when they are killed; "
                f"a device may hold them (ps -o pid,stat,wchan -p {numbers}); try down again later"
            )


def locked_endpoints() -> contextlib.AbstractContextManager[None]:
    """The lock under which endpoints are created and deleted, by one process at a time."""
    return folders.locked("endpoints")


def check_socket_folder(folder: Path) -> None:
    """Check that a folder for run directories is short enough: a socket's path has about 100 bytes.

    Raises:
        LocalEndpointError: it is too long.
    """
    if len(os.fsencode(folder)) > _MAX_SOCKET_FOLDER:
        raise LocalEndpointError(
            f"{folder} is too long for the sockets of an endpoint; set TMPDIR to a folder of at most "
            f"{_MAX_SOCKET_FOLDER} bytes"
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "without output"
