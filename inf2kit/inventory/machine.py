"""What rehearsals have left on this machine: local endpoints, the rehearsal cloud, folders.

It needs the extra ``local``; ``has_traces`` does not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inf2kit import paths
from inf2kit.errors import Inf2KitError, LocalEndpointError

#: A folder of sockets that is younger may be that of an endpoint which is just starting.
_STARTING_S = 3600.0


@dataclass(frozen=True)
class Leftover:
    """Something of inf2kit on this machine.

    Attributes:
        kind: ``local endpoint``, ``rehearsal cloud`` or ``folder``.
        name: Its name or path.
        status: Such as ``InService``.
        running: Whether processes of it live.
        command: What removes it.
        remove: Removes it; raises an Inf2KitError or OSError where it cannot.
    """

    kind: str
    name: str
    status: str
    running: bool
    command: str
    remove: Callable[[], object]

    @property
    def label(self) -> str:
        """The leftover in a sentence."""
        return f"{self.kind} {self.name}"


def has_traces() -> bool:
    """Whether there may be any leftover of this home: whether it has folders of endpoints or of a cloud."""
    folder = paths.endpoints()
    return (paths.home() / "cloud").exists() or (folder.is_dir() and any(folder.iterdir()))


def scan_machine() -> list[Leftover]:
    """List what rehearsals of this home have left, running or not, and folders that belong to nothing.

    Raises:
        ImportError: the extra ``local`` is not installed.
    """
    leftovers = [*_local_endpoints(), *_cloud()]
    return [*leftovers, *_orphaned_folders()]


def _local_endpoints() -> Iterator[Leftover]:
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    for endpoint in LocalEndpoint.list_all():
        try:
            state = endpoint.describe()
            status, running = state.status, state.host() is not None
        except LocalEndpointError:
            status, running = "Unreadable", False
        command = f"inf2kit local down {endpoint.name}"
        yield Leftover("local endpoint", endpoint.name, status, running, command, endpoint.stop)


def _cloud() -> Iterator[Leftover]:
    from inf2kit.rehearsal.cloud import lifecycle

    settings = lifecycle.find()
    if settings is not None:
        running = lifecycle.process(settings) is not None
        status = "running" if running else "ended"
        yield Leftover("rehearsal cloud", settings.url, status, running, "inf2kit cloud down", lifecycle.down)


def _orphaned_folders() -> Iterator[Leftover]:
    """Folders for sockets, of this user, whose processes have ended and which no endpoint or cloud names."""
    from inf2kit.rehearsal.cloud.settings import RUN_DIR_PREFIX
    from inf2kit.rehearsal.container import processes
    from inf2kit.rehearsal.local.endpoint import RUN_DIR_PREFIX as LOCAL_PREFIX

    named = set(_named_folders())
    for prefix in (RUN_DIR_PREFIX, LOCAL_PREFIX):
        for folder in sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*")):
            with contextlib.suppress(OSError):
                status = folder.lstat()
                is_old = time.time() - status.st_mtime > _STARTING_S
                if folder in named or not folder.is_dir() or status.st_uid != os.getuid() or not is_old:
                    continue
                if not processes.list_processes(folder, nested=True):
                    yield Leftover(
                        "folder", str(folder), "left over", False, f"rm -r {folder}", _remover(folder)
                    )


def _named_folders() -> Iterator[Path]:
    from inf2kit.rehearsal.cloud import lifecycle
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    for endpoint in LocalEndpoint.list_all():
        with contextlib.suppress(Inf2KitError):
            if state := endpoint.read_state():
                yield Path(state.run_dir)
    if settings := lifecycle.find():
        yield settings.run_dir


def _remover(folder: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(folder)
