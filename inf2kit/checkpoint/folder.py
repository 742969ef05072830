"""The files of a model's folder as they are on disk: links, sizes, and pointers instead of files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inf2kit.errors import CheckpointError
from inf2kit.serving.model_dir import CODE_FOLDER, MANIFEST

_POINTER = b"version https://git-lfs.github.com/spec/"
#: Bytes. A pointer of Git LFS is smaller.
_MAX_POINTER = 1024


def list_files(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """List the files of a folder by their path in it, with slashes; links lead to their targets.

    Returns:
        The files, and by path what is wrong with links, such as those to nowhere.

    Raises:
        CheckpointError: it is no folder, or cannot be read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a directory; give one of weights and tokenizer")
    targets = _allowed_targets(folder.resolve())
    files: dict[str, Path] = {}
    faults: dict[str, str] = {}
    for name in sorted(_walk(folder)):
        path = folder / name
        target = path.resolve()
        if path.is_symlink() and not target.exists():
            faults[name] = (
                f"{path} is a link to {path.readlink()}, which does not exist; fetch the file again"
            )
        elif path.is_symlink() and not any(target.is_relative_to(allowed) for allowed in targets):
            faults[name] = (
                f"{path} is a link to {target}, outside of {folder}, and would be published too; put a copy "
                "in its place, or delete it"
            )
        elif target.is_file():
            # The hub's cache holds links to its files. The package gets the file.
            files[name] = target
    return files, faults


def _walk(folder: Path) -> list[str]:
    """Return the paths of all files and links, without following links to folders."""

    def refuse(error: OSError) -> None:
        raise CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror}") from None

    names: list[str] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(place, name).is_symlink()]
        names += [Path(place, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return names


def _allowed_targets(folder: Path) -> list[Path]:
    """Return where links may lead: into the folder, and from a snapshot of the hub's cache to its blobs."""
    blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
    return [folder, blobs]


def find_package(names: Mapping[str, object], folder: Path) -> str | None:
    """Return what is wrong with a folder that is a package already, or None."""
    for name in names:
        if name == MANIFEST or name.startswith(f"{CODE_FOLDER}/"):
            return (
                f"{folder} holds {name}, so it is a package already or has code of its own; give a directory "
                "of weights and tokenizer only"
            )
    return None


def find_content_fault(path: Path, name: Path) -> str | None:
    """Return what is wrong with a file's content, whatever its kind, or None.

    Args:
        path: The file.
        name: The path that the user knows it by.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_MAX_POINTER)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}; make it readable, or fetch it again"
    if size == 0:
        return f"{name} is empty; fetch it again"
    if size < _MAX_POINTER and start.startswith(_POINTER):
        wanted = next(
            (line[5:] for line in start.decode(errors="replace").splitlines() if line[:5] == "size "), ""
        )
        whole = f"the file of {int(wanted):,} bytes" if wanted.isdigit() else "the file itself"
        return f"{name} is a pointer of Git LFS, not {whole}; run 'git lfs pull' in its folder"
    return None


def read_json(path: Path, name: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        name: The path that the user knows it by.

    Raises:
        CheckpointError: the file cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror}; fetch it again") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not JSON ({error}); fetch it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{name} is not a JSON object; fetch it again")
    return values
