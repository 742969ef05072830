"""What a rehearsal cloud is told, and what another command needs to find it.

``cloud.json`` is written before it starts; ``state.json`` by itself, when it answers.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from inf2kit import paths

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
        access_key: The access key id that its callers need.
        undone: What a stack makes of an update that SageMaker has undone by itself: ``accepted``, ``refused``
            or ``unnoticed``.
        pid: Of the process; 0 before there is one.
    """

    folder: Path
    run_dir: Path
    port: int
    region: str
    minute_s: float
    access_key: str
    undone: str = "accepted"
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
        """Keep them, where only their owner can read the key."""
        paths.make_private(self.folder)
        values = {**asdict(self), "folder": str(self.folder), "run_dir": str(self.run_dir)}
        _write(self.folder / _SETTINGS, values)

    @classmethod
    def read(cls, folder: Path) -> CloudSettings | None:
        """A cloud's settings, or None where there are none that this release can read."""
        try:
            values = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            # Another release may have written more than this one knows, or have known no key.
            known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
            known |= {"folder": Path(known["folder"]), "run_dir": Path(known["run_dir"])}
            return cls(**{"access_key": "", **known})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def folder() -> Path:
    """Where the cloud of this home lies."""
    return paths.home() / "cloud"


def write_state(settings: CloudSettings, state: str) -> None:
    """Tell other commands."""
    _write(settings.folder / _STATE, {"state": state})


def _write(path: Path, value: object) -> None:
    """A reader sees the old content or the new one, never half of it; the file is its owner's (0600)."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
    Path(scratch).replace(path)


def is_ready(settings: CloudSettings) -> bool:
    """Whether it has said that it answers."""
    return (settings.folder / _STATE).exists()
