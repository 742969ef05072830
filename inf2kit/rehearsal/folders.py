"""Lock and delete the folders of the rehearsal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inf2kit import paths


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Wait for a lock that one process at a time can hold.

    Args:
        name: The lock's name, such as ``endpoints``.
    """
    paths.make_private(paths.home())
    with open(paths.home() / f".{name}.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def delete(folder: Path) -> None:
    """Delete a folder with its read-only folders."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                (Path(parent) / name).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
