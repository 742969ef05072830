"""How the processes of one endpoint end together, whatever ends first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import psutil

#: The exit status for a fault that starting again will not mend.
TERMINAL = 78
#: The exit status for a device that another process holds.
BUSY = 75
#: The engine leaves here why it cannot load, before it ends.
REASON_FILE = "reason"
#: Made by the first gateway of a container when it opens the port: a later one need not prove anything.
OPENED_FILE = "opened"
#: The supervisor keeps its state here: ``{"state": "...", "reason": null, "restarts": 0, "held": 0}``,
#: "held" counts the starts that found the device held by another process.
STATE_FILE = "supervisor.json"
#: A process that lived so long ended by accident and is replaced at once.
_LONG_LIFE_S = 5.0
_MAX_WAIT_S = 30.0


def next_wait_s(wait_s: float, lived_s: float) -> float:
    """Seconds to wait before a process that has ended is started again.

    None after an accident; longer and longer where it ends as soon as it begins.

    Args:
        wait_s: What was waited the last time.
        lived_s: How long the process lived.
    """
    return 0.0 if lived_s > _LONG_LIFE_S else min(max(2 * wait_s, 0.5), _MAX_WAIT_S)


def python_path(*first: Path) -> str:
    """A PYTHONPATH with these folders before what is there already."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


def say(who: str, message: str) -> None:
    """One line in the endpoint's log. A log that cannot be written is no reason to stop."""
    write_line(f"inf2kit {who}: {message}")


def write_line(line: str) -> None:
    """A line in the endpoint's log as it is."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def end_with_parent() -> None:
    """End this process as soon as its parent ends: the parent holds the other end of standard input."""

    def wait() -> None:
        # Not sys.stdin: Python aborts when it ends while a thread holds the lock of that buffer.
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def be_killed_first() -> None:
    """Where memory ends, the kernel ends this process before the engine, which takes minutes to load."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def model_server() -> psutil.Process:
    """The model server above this process, or this process where there is none.

    A worker is a child of the Java process, or a child of the process it was forked from.
    """
    here = psutil.Process()
    for ancestor in here.parents():
        if "java" in ancestor.name():
            return ancestor
    return here
