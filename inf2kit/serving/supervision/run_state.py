"""Exit statuses and files in the run directory, by which the processes of one endpoint share their state."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

#: Exit status of an engine that cannot load its model, however often it is started.
CANNOT_LOAD = 78
#: Exit status of an engine whose device another process holds.
DEVICE_BUSY = 75

_STATE_FILE = "supervisor.json"
_REASON_FILE = "reason"
_OPENED_FILE = "opened"


@dataclass(frozen=True)
class SupervisorState:
    """The supervisor's state, for people and for the gateway's metrics.

    Attributes:
        state: ``starting``, ``ready``, ``waiting for the device``, ``failed`` or ``ended``.
        reason: Why, for ``failed`` and ``waiting for the device``.
        restarts: Number of times that the engine was started again.
        held: Number of starts at which another process held the device.
    """

    state: str
    reason: str | None
    restarts: int
    held: int

    def write(self, run_dir: Path) -> None:
        """Write the state. Errors are ignored: a full disk must not end the endpoint."""
        path = run_dir / _STATE_FILE
        scratch = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(asdict(self)), encoding="utf-8")
            scratch.replace(path)

    @classmethod
    def read(cls, run_dir: Path) -> SupervisorState | None:
        """The state as it was written last, or None where there is none."""
        try:
            return cls(**json.loads((run_dir / _STATE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def write_reason(run_dir: Path, reason: str) -> None:
    """Leave the reason why an engine ends.

    Raises:
        OSError: the file cannot be written.
    """
    (run_dir / _REASON_FILE).write_text(reason, encoding="utf-8")


def read_reason(run_dir: Path) -> str:
    """The reason that the last engine has left."""
    try:
        return (run_dir / _REASON_FILE).read_text(encoding="utf-8")
    except OSError:
        return "the engine could not write why; standard error has it"


def delete_reason(run_dir: Path) -> None:
    """Forget the reason of an earlier engine."""
    (run_dir / _REASON_FILE).unlink(missing_ok=True)


def was_opened(run_dir: Path) -> bool:
    """Whether a gateway of this container has opened the port before."""
    return (run_dir / _OPENED_FILE).exists()


def mark_opened(run_dir: Path) -> None:
    """Note that the port is opened. Errors are ignored: the next gateway proves again that all is well."""
    with contextlib.suppress(OSError):
        (run_dir / _OPENED_FILE).touch()
