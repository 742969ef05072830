"""The state of a local endpoint in its folder, which other commands read.

``state.json`` is written when the endpoint is started. ``status.json`` is written by its host.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from inf2kit.client.local import STATE_FILE
from inf2kit.rehearsal.container import processes

_STATUS_FILE = "status.json"


@dataclass(frozen=True)
class EndpointState:
    """The state of one local endpoint.

    Attributes:
        name: The EndpointName.
        preset: The preset's name or path.
        runtime_port: The port of SageMaker's runtime API, for boto3.
        gateway_port: The port that stands for the container's port 8080.
        run_dir: The container's ``TEMP``, and the mark of its processes.
        host_pid: The number of the host process; 0 before it is started.
        status: ``Creating``, ``InService`` or ``Failed``.
        reason: One sentence on why it failed.
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
        """The URL of the container's port."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def host(self) -> psutil.Process | None:
        """The living host process, or None."""
        return processes.find_process(self.host_pid, Path(self.run_dir))

    @classmethod
    def read(cls, folder: Path) -> EndpointState | None:
        """Read the state in an endpoint's folder; None if there is none that this release can read."""
        try:
            values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            with contextlib.suppress(OSError, ValueError):  # the host writes it later
                values |= json.loads((folder / _STATUS_FILE).read_text(encoding="utf-8"))
            # Other releases may write more fields.
            return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write the state, but not the status, which is the host's."""
        values = asdict(self)
        del values["status"], values["reason"]
        _replace_json(folder / STATE_FILE, values)


def write_status(folder: Path, status: str, reason: str) -> None:
    """Write an endpoint's status."""
    _replace_json(folder / _STATUS_FILE, {"status": status, "reason": reason})


def _replace_json(path: Path, value: object) -> None:
    """Replace a file at once, so that no reader sees half of it. The folder must exist."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
    Path(scratch).replace(path)
