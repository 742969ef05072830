"""What is remembered of a local endpoint, so that another command finds it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from inf2kit import home


@dataclass(frozen=True)
class EndpointState:
    """One local endpoint.

    Attributes:
        name: The EndpointName to call it by.
        preset: The preset's name or path.
        status: ``Creating``, ``InService`` or ``Failed``.
        reason: Why it failed, a sentence.
        front_port: Where boto3 goes.
        gate_port: What stands in for the container's port 8080.
        model_server_port: The model server's own, on loopback.
        management_port: The model server's management address.
        run_dir: What stands in for the container's ``/tmp``.
        host_pid: The process that keeps it.
        host_started: When that process was created, seconds of the epoch: a pid alone may be reused.
    """

    name: str
    preset: str
    status: str
    reason: str
    front_port: int
    gate_port: int
    model_server_port: int
    management_port: int
    run_dir: str
    host_pid: int = 0
    host_started: float = 0.0

    @property
    def url(self) -> str:
        """The ``endpoint_url`` for boto3."""
        return f"http://127.0.0.1:{self.front_port}"

    @property
    def gate_url(self) -> str:
        """The container's port."""
        return f"http://127.0.0.1:{self.gate_port}"

    def host(self) -> psutil.Process | None:
        """The living host process, or None."""
        try:
            process = psutil.Process(self.host_pid) if self.host_pid else None
            if process is None or abs(process.create_time() - self.host_started) > 1.0:
                return None
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def folder(name: str) -> Path:
    """Where an endpoint's model directory, log and state lie."""
    return home.endpoints() / name


def read(name: str) -> EndpointState | None:
    """An endpoint's state, or None where there is no such endpoint."""
    try:
        return EndpointState(**json.loads((folder(name) / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(state: EndpointState) -> None:
    """Keep an endpoint's state; a reader sees the old one or the new one."""
    directory = folder(state.name)
    directory.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=directory, prefix=".state-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=2)
    Path(scratch).replace(directory / "state.json")


def names() -> list[str]:
    """Every endpoint that has a folder, in alphabetical order."""
    if not home.endpoints().is_dir():
        return []
    return sorted(path.name for path in home.endpoints().iterdir() if path.is_dir())
