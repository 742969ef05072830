"""How the processes of one endpoint end together, whatever ends first."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil

#: The exit status for a fault that starting again will not mend.
TERMINAL = 78
#: The engine makes this file in its run directory when it is ready, the supervisor removes it.
READY_FILE = "ready"
#: The engine leaves its reason here before it ends with ``TERMINAL``.
REASON_FILE = "reason"


def python_path(*first: Path) -> str:
    """A PYTHONPATH with these folders before what is there already."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


def say(who: str, message: str) -> None:
    """One line in the endpoint's log."""
    sys.stdout.write(f"inf2kit {who}: {message}\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """End this process as soon as its parent ends: the parent holds the other end of standard input."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def model_server() -> psutil.Process:
    """The model server above this process, or this process where there is none.

    A worker is a child of the Java process, or a child of the process it was forked from.
    """
    here = psutil.Process()
    for ancestor in here.parents():
        if "java" in ancestor.name():
            return ancestor
    return here
