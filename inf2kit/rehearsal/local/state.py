"""What is remembered of a local endpoint, so that another command finds it.

``state.json`` is written once, by ``endpoint.up``; ``status.json`` is written by the host as things change.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from inf2kit import paths
from inf2kit.client.local import MARK, STATE_FILE


@dataclass(frozen=True)
class EndpointState:
    """One local endpoint.

    Attributes:
        name: The EndpointName to call it by.
        preset: The preset's name or path.
        runtime_port: Where boto3 goes.
        gateway_port: What stands in for the container's port 8080.
        run_dir: What stands in for the container's ``/tmp``.
        host_pid: The process that keeps it; 0 before there is one.
        status: ``Creating``, ``InService`` or ``Failed``.
        reason: Why it failed, a sentence.
    """

    name: str
    preset: str
    runtime_port: int
    gateway_port: int
    run_dir: str
    host_pid: int = 0
    status: str = "Creating"
    reason: str = ""

    @property
    def url(self) -> str:
        """The ``endpoint_url`` for boto3."""
        return f"http://127.0.0.1:{self.runtime_port}"

    @property
    def gateway_url(self) -> str:
        """The container's port."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def host(self) -> psutil.Process | None:
        """The living host process, or None."""
        return living(self.host_pid, self.run_dir)


def living(pid: int, run_dir: str) -> psutil.Process | None:
    """A living process with a mark, or None; one that only has its number is not taken for it.

    Args:
        pid: 0 where there is none yet.
        run_dir: What it is marked with.
    """
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if process.environ().get(MARK) == run_dir else None
    except (psutil.Error, OSError):
        return None


def read(name: str) -> EndpointState | None:
    """An endpoint's state, or None where there is none that this release can read.

    Raises:
        LocalEndpointError: the name could not be an endpoint's.
    """
    folder = paths.endpoint(name)
    try:
        values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        with contextlib.suppress(OSError, ValueError):  # the host may not have written one yet
            values |= json.loads((folder / "status.json").read_text(encoding="utf-8"))
        # Another release may have written more than this one knows.
        return EndpointState(
            **{each.name: values[each.name] for each in fields(EndpointState) if each.name in values}
        )
    except (OSError, ValueError, TypeError):
        return None


def write(state: EndpointState) -> None:
    """Keep an endpoint's state."""
    kept = asdict(state)
    del kept["status"], kept["reason"]
    _replace(paths.endpoint(state.name) / STATE_FILE, kept)


def write_status(name: str, status: str, reason: str) -> None:
    """Keep an endpoint's status."""
    _replace(paths.endpoint(name) / "status.json", {"status": status, "reason": reason})


def names() -> list[str]:
    """Every endpoint that has a folder, in alphabetical order."""
    if not paths.endpoints().is_dir():
        return []
    return sorted(path.name for path in paths.endpoints().iterdir() if path.is_dir())


def _replace(path: Path, value: object) -> None:
    """A reader sees the old content or the new one, never half of it. The folder must be there."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
    Path(scratch).replace(path)
