"""Free space on disks, checked before hours of work and not after them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from inf2kit.errors import CompileError


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds a folder, or will hold it."""
    return shutil.disk_usage(_nearest_existing(folder)).free


def find_largest(folders: Iterable[Path]) -> Path:
    """Return the folder with the most free space; of several on one disk the first."""
    return max(folders, key=free_bytes)


def check_room(needs: Mapping[Path, int], doing: str = "compiling") -> None:
    """Refuse where a disk has less free space than will be written to it.

    Args:
        needs: Bytes by the folder that they go to. Folders on one disk share its free space.
        doing: What writes them.

    Raises:
        CompileError: naming the folder, what is free there and what is needed.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        disk = _nearest_existing(folder).stat().st_dev
        first, total = disks.get(disk, (folder, 0))
        disks[disk] = first, total + size
    for folder, size in disks.values():
        if free_bytes(folder) < size:
            raise CompileError(
                f"{folder} has {free_bytes(folder) / 1e9:.1f} GB free and {doing} writes "
                f"{size / 1e9:.1f} GB there; make room, or set INF2KIT_HOME (compiled models) and HF_HOME "
                "(weights of the hub) to folders on a larger disk"
            )


def _nearest_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
