"""Child processes that end with their parent, whatever ends first."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from inf2kit.serving.supervision.heartbeat import Heartbeat

#: From linux/prctl.h: the signal that the kernel sends when the thread ends that has started this process.
_PR_SET_PDEATHSIG = 1


def start_child(
    module: str,
    model_dir: str,
    path: tuple[Path, ...],
    heartbeats: Mapping[str, Sequence[Heartbeat]],
    environ: Mapping[str, str] = MappingProxyType({}),
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``python -m MODULE MODEL_DIR`` with this process's standard output and error.

    Args:
        module: The module, whose ``main`` calls ``end_with_parent``.
        model_dir: The model package.
        path: Folders to put before ``PYTHONPATH``.
        heartbeats: Heartbeats to share, by the variable that passes them on.
        environ: Further variables.
        folder: The working directory; None for this process's own.

    Raises:
        OSError: the system cannot start a process now.
    """
    descriptors = {variable: [beat.fd for beat in shared] for variable, shared in heartbeats.items()}
    return subprocess.Popen(
        [sys.executable, "-m", module, model_dir],
        env={
            **os.environ,
            **{variable: ",".join(map(str, shared)) for variable, shared in descriptors.items()},
            **environ,
            "PYTHONPATH": python_path(*path),
            "PYTHONUNBUFFERED": "1",
        },
        # The kernel closes this pipe when this process ends, however it ends.
        stdin=subprocess.PIPE,
        pass_fds=tuple(itertools.chain(*descriptors.values())),
        cwd=folder,
    )


def end_with_parent() -> None:
    """End this process as soon as its parent ends.

    The other end of standard input is closed then. A process that is stopped or in a call of its device
    cannot see it, and would keep the port or the cores from its successor: the kernel's signal ends it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def wait() -> None:
        # Not sys.stdin: Python aborts if it ends while a thread holds the lock of that buffer.
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def be_killed_first() -> None:
    """Let the kernel end this process before the engine when memory is short: an engine loads for minutes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def python_path(*first: Path) -> str:
    """A ``PYTHONPATH`` with these folders before its present ones."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])
