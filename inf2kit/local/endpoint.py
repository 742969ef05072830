"""Local endpoints: up, status, logs, down."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from inf2kit import bundle, embedded, home
from inf2kit.container import environment
from inf2kit.errors import LocalEndpointError
from inf2kit.local import container, state
from inf2kit.local.host import ENVIRONMENT_FILE, LOG_FILE
from inf2kit.local.state import EndpointState
from inf2kit.presets import Preset, load_preset

Progress = Callable[[str], None]

#: The model server takes ports below 32767 only; below that there are no ephemeral ports either.
_PORTS = range(20_000, 32_000)
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_POLL_S = 0.1
_STOP_S = 30.0


def up(
    preset_name: str,
    *,
    name: str | None = None,
    gate: bool = True,
    variables: Mapping[str, str] | None = None,
    weights: Path | None = None,
    wait_s: float | None = 600.0,
    progress: Progress = lambda _: None,
) -> EndpointState:
    """Start a local endpoint and wait until it is in service.

    Args:
        preset_name: A preset's name, or a TOML file.
        name: The EndpointName; the preset's own by default.
        gate: Without it the toolkit runs as it is, as an endpoint without the gate would.
        variables: Environment variables beside the preset's, as one would set on a Model.
        weights: A directory of weights and tokenizer; the embedded model by default.
        wait_s: Seconds to wait for it; None returns at once, with the status ``Creating``.
        progress: Told each step, a phrase at a time.

    Raises:
        PresetError: the preset is not there or not right.
        LocalEndpointError: an endpoint of that name is up, or this one did not come into service.
    """
    preset = load_preset(preset_name)
    name = name or preset.endpoint_name
    if not _NAME.fullmatch(name):
        raise LocalEndpointError(
            f"{name!r} cannot be an endpoint's name; "
            "use up to 63 letters and digits, with single '-' between them"
        )
    with _changing():
        existing = state.read(name)
        if existing is not None and existing.host() is not None:
            raise LocalEndpointError(
                f"an endpoint {name!r} is up already ({existing.status}); "
                f"stop it with 'inf2kit local down {name}', or give this one another --name"
            )
        _remove(name)
        weights = weights or embedded.prepare(progress)
        progress("assembling the model directory")
        preset, notice = _rehearsed(preset)
        bundle.assemble(preset, weights, state.folder(name) / "model", notice=notice)
        endpoint = _reserve(name, preset_name)
        settings = {
            **environment(preset, gate=gate),
            "INF2KIT_RUN_DIR": endpoint.run_dir,
            **(variables or {}),
        }
        (state.folder(name) / ENVIRONMENT_FILE).write_text(json.dumps(settings), encoding="utf-8")
        progress("starting the model server")
        host = _start_host(name)
    if wait_s is None:
        return endpoint
    try:
        return _wait_in_service(name, host, time.monotonic() + wait_s, progress)
    except BaseException:
        # Whatever ends the wait, a key pressed by the user too: what was started is stopped.
        down(name, keep_log=True)
        raise


def down(name: str, *, keep_log: bool = False) -> bool:
    """Stop an endpoint and every process of it; false where there was nothing to stop."""
    endpoint = state.read(name)
    found = endpoint is not None
    if endpoint is not None:
        if host := endpoint.host():
            host.send_signal(signal.SIGTERM)
            try:
                host.wait(_STOP_S)
            except Exception:  # psutil.TimeoutExpired, or gone in between
                host.kill()
        # Whatever a killed host has left.
        container.stop(Path(endpoint.run_dir))
        shutil.rmtree(endpoint.run_dir, ignore_errors=True)
    log = state.folder(name) / LOG_FILE
    kept = log.read_bytes() if keep_log and log.exists() else b""
    shutil.rmtree(state.folder(name), ignore_errors=True)
    if kept:
        (home.home() / f"{name}.log").write_bytes(kept)
    return found


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
        return EndpointState(**{**endpoint.__dict__, "status": "Failed", "reason": reason})
    return endpoint


def all_endpoints() -> list[EndpointState]:
    """Every local endpoint, by name."""
    return [get(name) for name in state.names() if state.read(name) is not None]


def log_path(name: str) -> Path:
    """The endpoint's log: what CloudWatch would hold."""
    return state.folder(get(name).name) / LOG_FILE


def _rehearsed(preset: Preset) -> tuple[Preset, str | None]:
    """A preset this machine can run; one for a Neuron device keeps its shapes and says what stands in."""
    if preset.compute.backend != "neuron":
        return preset, None
    local = load_preset("smollm2-135m-local")
    notice = (
        f"rehearsal: {local.model.id} on this machine's CPU stands in for {preset.model.id} "
        f"on {preset.compute.instance_type}"
    )
    return Preset(**{**preset.__dict__, "compute": local.compute, "model": local.model}), notice


def _reserve(name: str, preset: str) -> EndpointState:
    taken: set[int] = set()
    for other in filter(None, map(state.read, state.names())):
        taken |= {other.front_port, other.gate_port, other.model_server_port, other.management_port}
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in taken and _is_free(port):
            ports.append(port)
        if len(ports) == 4:
            break
    run_dir = tempfile.mkdtemp(prefix="inf2kit-")
    front, gate, model_server, management = ports
    endpoint = EndpointState(
        name, preset, "Creating", "", front, gate, model_server, management, run_dir=run_dir
    )
    # Before anything is started, so that 'down' finds it whatever happens next.
    state.write(endpoint)
    return endpoint


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _start_host(name: str) -> subprocess.Popen[bytes]:
    with (state.folder(name) / "host.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "inf2kit.local.host", name],
            env={**os.environ, "INF2KIT_HOME": str(home.home())},
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
            failed = f"the process that keeps it ended: {_tail(state.folder(name) / 'host.log')}"
        if failed or time.monotonic() > deadline:
            why = failed or "it was not ready in time"
            raise LocalEndpointError(
                f"the endpoint {name!r} did not come into service: {why}; "
                f"its whole log is kept in {home.home() / f'{name}.log'}"
            )
        time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "without a word"


def _remove(name: str) -> None:
    if state.folder(name).exists():
        down(name)


@contextmanager
def _changing() -> Iterator[None]:
    """One command at a time chooses ports and makes folders."""
    home.endpoints().mkdir(parents=True, exist_ok=True)
    with open(home.home() / ".endpoints.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
