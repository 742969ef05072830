"""Room on disks, looked at before hours of work and not after them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from inf2kit.errors import CompileError


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be once it is made."""
    return shutil.disk_usage(_there(folder)).free


def most(folders: Iterable[Path]) -> Path:
    """The folder with the most room; of several on one disk the first."""
    return max(folders, key=free)


def check(needs: Mapping[Path, int]) -> None:
    """Refuse where a disk has less room than what will be written to it.

    Args:
        needs: Bytes by the folder that they go to. Folders on one disk share its room.

    Raises:
        CompileError: naming the folder, what is free there and what is needed.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        disk = _there(folder).stat().st_dev
        first, total = disks.get(disk, (folder, 0))
        disks[disk] = first, total + size
    for folder, size in disks.values():
        if free(folder) < size:
            raise CompileError(
                f"{folder} has {free(folder) / 1e9:.1f} GB free and compiling writes {size / 1e9:.1f} GB "
                "there; make room, or set INF2KIT_HOME (compiled models) and HF_HOME (weights of the hub) to "
                "folders on a larger disk"
            )


def _there(folder: Path) -> Path:
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())
