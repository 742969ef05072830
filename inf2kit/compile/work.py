"""The folder that one compilation works in: locked while it runs, and gone when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[str], None]

_WORK, _LOCK = ".making", ".lock"


@contextlib.contextmanager
def exclusive_work(folder: Path, progress: Progress) -> Iterator[Path]:
    """Hold the right to compile into a folder, and an empty folder to work in beside it.

    Another process that compiles the same is waited for. The kernel frees the lock of one that was killed,
    and the next one, of whatever model, deletes what that has left.

    Args:
        folder: Where the compiled model goes.
        progress: Called if another process must be waited for.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_suffix(_WORK)
    with folder.with_suffix(_LOCK).open("a+", encoding="utf-8") as lock:
        _acquire(lock.fileno(), folder, progress)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _delete_leftovers(folder.parent, work)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _acquire(lock: int, folder: Path, progress: Progress) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = folder.with_suffix(_LOCK).read_text(encoding="utf-8")
        progress(f"process {process} compiles the same model for the same shapes; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _delete_leftovers(parent: Path, own: Path) -> None:
    """Delete the work folders of processes that were killed; each is as large as the weights and more."""
    for work in parent.glob(f"*{_WORK}"):
        if work == own:
            continue
        with (
            work.with_suffix(_LOCK).open("a+", encoding="utf-8") as lock,
            contextlib.suppress(BlockingIOError),
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(work, ignore_errors=True)
