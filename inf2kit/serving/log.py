"""Lines in the endpoint's log, which is the standard output of the model server."""

from __future__ import annotations

import contextlib
import os

_STDOUT = 1


def log(component: str, message: str) -> None:
    """Write one line of a process: ``inf2kit COMPONENT: MESSAGE``."""
    log_line(f"inf2kit {component}: {message}")


def log_line(line: str) -> None:
    """Write a line as it is. A log that cannot be written is no reason to stop, so errors are ignored."""
    with contextlib.suppress(OSError):
        os.write(_STDOUT, f"{line}\n".encode(errors="replace"))
