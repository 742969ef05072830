"""The state of a local endpoint in its folder, which other commands read.

``state.json`` is written when the endpoint is started. ``status.json`` is written by its host.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from inf2kit import paths
from inf2kit.client.local import STATE_FILE
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.container import processes

_STATUS_FILE = "status.json"
#: Fields that are not texts.
_NUMBERS = ("runtime_port", "gateway_port", "host_pid")


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
        """Read the state in an endpoint's folder; None if there is none.

        Raises:
            LocalEndpointError: there is one that cannot be read, since it is damaged, of a release with other
                fields, or another user's.
        """
        path = folder / STATE_FILE
        try:
            values = _read_fields(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise LocalEndpointError(
                f"{path} cannot be read ({reason}); remove the endpoint with "
                f"'inf2kit local down {folder.name}'"
            ) from None
        with contextlib.suppress(OSError, ValueError):  # the host writes it later
            values |= _read_fields(folder / _STATUS_FILE)
        try:
            return cls(**values)
        except TypeError:
            missing = next(field.name for field in fields(cls) if field.name not in values)
            raise LocalEndpointError(
                f"{path} lacks {missing!r}; remove the endpoint with 'inf2kit local down {folder.name}'"
            ) from None

    def write(self, folder: Path) -> None:
        """Write the state, but not the status, which is the host's."""
        values = asdict(self)
        del values["status"], values["reason"]
        _replace_json(folder / STATE_FILE, values)


def write_status(folder: Path, status: str, reason: str) -> None:
    """Write an endpoint's status."""
    _replace_json(folder / _STATUS_FILE, {"status": status, "reason": reason})


def _read_fields(path: Path) -> dict[str, Any]:
    """Read the fields of a state from a JSON object; those of other releases are passed over.

    Raises:
        ValueError: it is no JSON object, or a field has another type.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    known = {field.name: values[field.name] for field in fields(EndpointState) if field.name in values}
    for name, value in known.items():
        expected = int if name in _NUMBERS else str
        if type(value) is not expected:
            raise ValueError(f"{name!r} is {value!r}, and not {expected.__name__}")
    return known


def _replace_json(path: Path, value: object) -> None:
    paths.replace_file(path, json.dumps(value, indent=2).encode())
