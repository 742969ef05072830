"""Local endpoints: up, status, logs, down."""

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
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from inf2kit import paths
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.package import collect
from inf2kit.package.environment import container_environment
from inf2kit.presets import load_preset
from inf2kit.rehearsal import folders, model
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local import ports, state
from inf2kit.rehearsal.local.host import ENVIRONMENT_FILE, LOG_FILE
from inf2kit.rehearsal.local.state import EndpointState

Progress = Callable[[str], None]

_POLL_S = 0.1
#: The host gives its container SageMaker's half minute, and the kernel some time after that.
_STOP_S = processes.TERM_GRACE_S + 15.0


def up(
    preset_name: str,
    *,
    name: str | None = None,
    gateway: bool = True,
    variables: Mapping[str, str] | None = None,
    weights: Path | None = None,
    rehearsal: bool = True,
    handler: Path | None = None,
    wait_s: float | None = 600.0,
    progress: Progress = lambda _: None,
) -> EndpointState:
    """Start a local endpoint and wait until it is in service.

    Args:
        preset_name: A preset's name, or a TOML file.
        name: The EndpointName; the preset's own by default.
        gateway: Without it the toolkit runs as it is, as an endpoint without the gateway would.
        variables: Environment variables beside the preset's, as one would set on a Model.
        weights: A directory of weights and tokenizer; the embedded model by default.
        rehearsal: Whether the embedded model on the CPU stands in for that of a Neuron preset; false on a
            machine with a device, with ``weights`` that are compiled.
        handler: A file that takes the place of inf2kit's ``inference.py``.
        wait_s: Seconds to wait for it; None returns at once, with the status ``Creating``.
        progress: Told each step, a phrase at a time.

    Raises:
        PresetError: the preset is not there or not right.
        LocalEndpointError: an endpoint of that name is up, or this one did not come into service, or there is
            no such launcher as the environment asks for.
    """
    processes.launcher()
    preset = load_preset(preset_name)
    name = name or preset.endpoint_name
    folder = paths.endpoint(name)
    weights = weights or model.prepare(progress)
    begun = False
    try:
        with folders.locked("endpoints"):
            existing = state.read(name)
            if existing is not None and existing.host() is not None:
                raise LocalEndpointError(
                    f"an endpoint {name!r} is up already ({existing.status}); "
                    f"stop it with 'inf2kit local down {name}', or give this one another --name"
                )
            begun = True
            _down(name)
            progress("assembling the model directory")
            collect(preset, weights, rehearsal=rehearsal, handler=handler).materialise(folder / "model")
            endpoint = _reserve(name, preset_name)
            settings = {**container_environment(preset, gateway=gateway), **(variables or {})}
            (folder / ENVIRONMENT_FILE).write_text(json.dumps(settings), encoding="utf-8")
            progress("starting the model server")
            host = _start_host(endpoint)
            endpoint = replace(endpoint, host_pid=host.pid)
            state.write(endpoint)
        if wait_s is None:
            return endpoint
        return _wait_in_service(name, host, time.monotonic() + wait_s, progress)
    except BaseException:
        # Whatever ends it, a key pressed by the user too: what was started is stopped.
        if begun:
            down(name, keep_log=True)
        raise


def down(name: str, *, keep_log: bool = False) -> bool:
    """Stop an endpoint and every process of it; false where there was nothing to stop.

    Raises:
        LocalEndpointError: a process of it does not end, not even when it is killed.
    """
    with folders.locked("endpoints"):
        return _down(name, keep_log=keep_log)


def _down(name: str, *, keep_log: bool = False) -> bool:
    folder, endpoint = paths.endpoint(name), state.read(name)
    if endpoint is not None:
        if host := endpoint.host():
            with contextlib.suppress(psutil.Error):  # it may end on its own in between
                host.send_signal(signal.SIGTERM)
                host.wait(_STOP_S)
        # Whatever a killed host has left, or one that has just begun.
        if left := processes.stop(Path(endpoint.run_dir)):
            numbers = ",".join(str(process.pid) for process in left)
            raise LocalEndpointError(
                f"the endpoint {name!r} has processes that do not end when they are killed; "
                f"a device may hold them (ps -o pid,stat,wchan -p {numbers}); try down again later"
            )
        shutil.rmtree(endpoint.run_dir, ignore_errors=True)
    log = folder / LOG_FILE
    if keep_log and log.exists():
        shutil.copy2(log, paths.home() / f"{name}.log")
    shutil.rmtree(folder, ignore_errors=True)
    return endpoint is not None


def get(name: str) -> EndpointState:
    """An endpoint's state; one whose host is gone is ``Failed``.

    Raises:
        LocalEndpointError: there is no such endpoint.
    """
    endpoint = state.read(name)
    if endpoint is None:
        known = ", ".join(state.names()) or "none"
        raise LocalEndpointError(
            f"there is no local endpoint {name!r} (there are: {known}); "
            "start one with 'inf2kit local up PRESET'"
        )
    if endpoint.host_pid and endpoint.host() is None:
        reason = f"the process that keeps it is gone; clear up with 'inf2kit local down {name}'"
        return replace(endpoint, status="Failed", reason=reason)
    return endpoint


def all_endpoints() -> list[EndpointState]:
    """Every local endpoint, by name."""
    return [get(name) for name in state.names() if state.read(name) is not None]


def log_path(name: str) -> Path:
    """The endpoint's log: what CloudWatch would hold.

    Raises:
        LocalEndpointError: there is no such endpoint, or it has just begun and has no log yet.
    """
    get(name)
    path = paths.endpoint(name) / LOG_FILE
    if not path.exists():
        raise LocalEndpointError(f"the endpoint {name!r} has no log yet; try again in a moment")
    return path


def _reserve(name: str, preset: str) -> EndpointState:
    taken: set[int] = set()
    for other in filter(None, map(state.read, state.names())):
        taken |= {other.runtime_port, other.gateway_port}
    run_dir = tempfile.mkdtemp(prefix="inf2kit-")
    front, gateway = ports.choose(2, taken)
    endpoint = EndpointState(name, preset, front, gateway, run_dir)
    # Before anything is started, so that 'down' finds it whatever happens next.
    state.write(endpoint)
    return endpoint


def _start_host(endpoint: EndpointState) -> subprocess.Popen[bytes]:
    with (paths.endpoint(endpoint.name) / "host.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "inf2kit.rehearsal.local.host", endpoint.name],
            env={**os.environ, "INF2KIT_HOME": str(paths.home()), MARK: endpoint.run_dir},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_in_service(
    name: str, host: subprocess.Popen[bytes], deadline: float, progress: Progress
) -> EndpointState:
    progress("loading the model")
    while True:
        endpoint = state.read(name)
        if endpoint is not None and endpoint.status == "InService":
            return endpoint
        failed = endpoint.reason if endpoint is not None and endpoint.status == "Failed" else ""
        if host.poll() is not None:
            failed = f"the process that keeps it ended: {_tail(paths.endpoint(name) / 'host.log')}"
        if failed or time.monotonic() > deadline:
            why = failed or "it was not ready in time"
            raise LocalEndpointError(
                f"the endpoint {name!r} did not come into service: {why}; "
                f"its whole log is kept in {paths.home() / f'{name}.log'}"
            )
        time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "without a word"
