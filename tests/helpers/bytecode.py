"""Bytecode for processes that keep theirs in a folder of its own, as those of endpoints do."""

from __future__ import annotations

import contextlib
import os
import sysconfig
from pathlib import Path


def seed(prefix: Path, at: Path | None = None) -> None:
    """Link what pip has compiled into a folder for ``PYTHONPYCACHEPREFIX``, unless that was done before.

    Otherwise the first endpoint compiles 3,000 modules, which takes 20 s of one core.

    Args:
        prefix: The folder.
        at: Where those processes see this environment's packages, if not where they are.
    """
    source = Path(sysconfig.get_path("purelib"))
    target = prefix / (at or source).relative_to("/")
    if (target / ".seeded").exists():
        return
    for folder, _, files in os.walk(source):
        if not folder.endswith("__pycache__"):
            continue
        compiled = target / Path(folder).parent.relative_to(source)
        compiled.mkdir(parents=True, exist_ok=True)
        for name in files:
            # Another worker may do the same meanwhile.
            with contextlib.suppress(OSError):
                os.link(f"{folder}/{name}", compiled / name)
    (target / ".seeded").touch()
