"""The settings and the state file of a rehearsal cloud.

``inf2kit cloud up`` writes ``cloud.json`` before the server starts. The server writes ``state.json`` when it
answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from inf2kit import paths

#: moto's default account.
ACCOUNT = "123456789012"
#: The secret of the cloud's own access key, which is random itself. Only bearer tokens are signed with it.
SECRET = "rehearsal"  # noqa: S105
_SETTINGS, _STATE = "cloud.json", "state.json"
_FOLDER = "cloud"
#: The start of the name of ``run_dir``.
RUN_DIR_PREFIX = "inf2cloud-"


@dataclass(frozen=True)
class CloudSettings:
    """The settings of one cloud; each home of inf2kit has at most one.

    Attributes:
        folder: The cloud's folder: settings, state, log, models and instances.
        run_dir: A short path for the containers' sockets, whose paths are limited to about 100 bytes.
        port: The port of all services.
        region: The region that has endpoints.
        minute_s: Seconds that one minute of AWS's deliberate waits takes; 60 is real time.
        access_key: The access key id that callers must use.
        undone: What a stack does when SageMaker has rolled an endpoint update back: ``accepted``, ``refused``
            or ``unnoticed``; see ``lifecycle.up``.
        quotas: How many instances endpoints may have, by instance type; None is no limit.
        pid: The server's process id; 0 before it starts.
    """

    folder: Path
    run_dir: Path
    port: int
    region: str
    minute_s: float
    access_key: str
    undone: str = "accepted"
    quotas: Mapping[str, int] | None = None
    pid: int = 0

    @property
    def url(self) -> str:
        """The value of ``AWS_ENDPOINT_URL``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "cloud.log"

    def write(self) -> None:
        """Write the settings to a file that only its owner can read, since it holds the key."""
        paths.make_private(self.folder)
        values = {**asdict(self), "folder": str(self.folder), "run_dir": str(self.run_dir)}
        _write_json(self.folder / _SETTINGS, values)

    @classmethod
    def read(cls, folder: Path) -> CloudSettings | None:
        """Read a cloud's settings; None if there are none that this release can read."""
        try:
            values = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            # Another release may write fields that this one does not know, or no access key.
            known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
            known |= {"folder": Path(known["folder"]), "run_dir": Path(known["run_dir"])}
            settings = cls(**{"access_key": "", **known})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return settings if settings._is_sound() else None

    def _is_sound(self) -> bool:
        """Whether the values have their types, and the folders, which ``down`` deletes, are a cloud's."""
        numbers = (self.port, self.pid, self.minute_s)
        texts = (self.region, self.access_key, self.undone)
        return (
            all(type(number) in (int, float) for number in numbers)
            and (self.quotas is None or isinstance(self.quotas, dict))
            and all(isinstance(text, str) for text in texts)
            and self.folder.name == _FOLDER
            and self.run_dir.name.startswith(RUN_DIR_PREFIX)
        )


def folder() -> Path:
    """The folder of this home's cloud."""
    return paths.home() / _FOLDER


def write_state(settings: CloudSettings, state: str) -> None:
    """Write the server's state for other commands to read."""
    _write_json(settings.folder / _STATE, {"state": state})


def is_ready(settings: CloudSettings) -> bool:
    """Whether the server has written that it answers."""
    return (settings.folder / _STATE).exists()


def _write_json(path: Path, value: object) -> None:
    """Replace a file atomically; its mode is 0600."""
    paths.replace_file(path, json.dumps(value, indent=2).encode())
