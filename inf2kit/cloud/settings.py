"""What a rehearsal cloud is told, and what another command needs to find it.

``cloud.json`` is written before it starts; ``state.json`` by itself, when it answers.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from inf2kit import home

#: moto's own.
ACCOUNT = "123456789012"
_SETTINGS, _STATE = "cloud.json", "state.json"


@dataclass(frozen=True)
class CloudSettings:
    """One cloud; there is one for each home of inf2kit.

    Attributes:
        folder: Of everything it keeps.
        run_dir: A short path, below which the containers' sockets lie.
        port: Of all services.
        region: The one that has endpoints.
        minute_s: Seconds that a minute of AWS's own waiting lasts.
        pid: Of the process; 0 before there is one.
    """

    folder: Path
    run_dir: Path
    port: int
    region: str
    minute_s: float
    pid: int = 0

    @property
    def url(self) -> str:
        """``AWS_ENDPOINT_URL``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the cloud says."""
        return self.folder / "cloud.log"

    def write(self) -> None:
        """Keep them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {**asdict(self), "folder": str(self.folder), "run_dir": str(self.run_dir)}
        (self.folder / _SETTINGS).write_text(json.dumps(values, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> CloudSettings | None:
        """A cloud's settings, or None where there is none."""
        try:
            values = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(**{**values, "folder": Path(values["folder"]), "run_dir": Path(values["run_dir"])})


def folder() -> Path:
    """Where the cloud of this home lies."""
    return home.home() / "cloud"


def write_state(settings: CloudSettings, state: str) -> None:
    """Tell other commands."""
    scratch = settings.folder / f".{_STATE}.{os.getpid()}"
    scratch.write_text(json.dumps({"state": state}), encoding="utf-8")
    scratch.replace(settings.folder / _STATE)


def is_ready(settings: CloudSettings) -> bool:
    """Whether it has said that it answers."""
    return (settings.folder / _STATE).exists()
