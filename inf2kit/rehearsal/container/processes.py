"""List and end the processes of a container, which are found by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from inf2kit.client.local import MARK

#: Seconds between SageMaker's SIGTERM and its SIGKILL.
TERM_GRACE_S = 30.0
#: Seconds to wait for killed processes. A process that waits for a device (state D) survives SIGKILL.
_KILL_WAIT_S = 10.0
#: Seconds after which processes that were killed are listed, and killed, again.
_LIST_AGAIN_S = 1.0
_POLL_S = 0.05


def stop(run_dir: Path) -> list[psutil.Process]:
    """End every process of an endpoint except this one, as SageMaker ends a container.

    Process 1 of the container gets SIGTERM, or the model server if the container has no process 1. After 30 s
    all get SIGKILL, or as soon as model server, gateway and engine have ended. On AWS an empty container
    lives for the rest of the 30 s, which is not worth a wait here.

    Returns:
        The processes that are still alive, as ``kill`` does.
    """
    alive = list_processes(run_dir)
    for process in _signal_receivers(alive):
        _send_signal(process, signal.SIGTERM)
    deadline = time.monotonic() + TERM_GRACE_S
    while time.monotonic() < deadline and any(_is_serving(process) for process in alive):
        time.sleep(_POLL_S)
        alive = list_processes(run_dir)
    return kill(run_dir)


def kill(run_dir: Path, *, nested: bool = False, wait_s: float = _KILL_WAIT_S) -> list[psutil.Process]:
    """Kill every process of an endpoint except this one.

    Args:
        run_dir: The mark of the processes.
        nested: Whether processes with a mark below ``run_dir`` are killed too.
        wait_s: Seconds to wait for their end.

    Returns:
        The processes that are still alive after ``wait_s``.
    """
    deadline = time.monotonic() + wait_s
    # A process may start another one between the listing and the signal, so repeat until none is listed.
    while (alive := list_processes(run_dir, nested=nested)) and time.monotonic() < deadline:
        for process in alive:
            _send_signal(process, signal.SIGKILL)
        # Not psutil.wait_procs: it waits for the last zombie, which nobody reaps in some containers.
        listed_again = min(deadline, time.monotonic() + _LIST_AGAIN_S)
        while any(map(_is_alive, alive)) and time.monotonic() < listed_again:
            time.sleep(_POLL_S)
    return alive


def list_processes(run_dir: Path, *, nested: bool = False) -> list[psutil.Process]:
    """List the living processes of an endpoint, including its host and excluding this process.

    Args:
        run_dir: The mark of the processes.
        nested: Whether processes with a mark below ``run_dir`` are listed too.
    """
    members: dict[int, psutil.Process] = {}
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process)
            mark = process.environ().get(MARK, "")
            if mark == str(run_dir) or (nested and mark.startswith(f"{run_dir}/")):
                members[process.pid] = process
        except (psutil.Error, OSError):
            continue
    # The processes inside a faithful container have no mark, but descend from the process that keeps it.
    pending = list(members.values())
    while pending:
        for process in children.get(pending.pop().pid, ()):
            if process.pid not in members:
                members[process.pid] = process
                pending.append(process)
    return [process for process in members.values() if process.pid != os.getpid() and _is_alive(process)]


def find_process(pid: int, run_dir: Path) -> psutil.Process | None:
    """Return the living process with this number and mark, or None.

    A process without the mark only reuses the number.

    Args:
        pid: The process's number; 0 stands for none.
        run_dir: The mark.
    """
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if process.environ().get(MARK) == str(run_dir) else None
    except (psutil.Error, OSError):
        return None


def find_marked(*words: str) -> list[tuple[psutil.Process, dict[str, str]]]:
    """Find the living processes with a mark by the end of their command line; return their environments too.

    Args:
        *words: The last words of the command line.
    """
    matches = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-len(words) :] == list(words) and MARK in (variables := process.environ()):
                matches.append((process, variables))
        except (psutil.Error, OSError):
            continue
    return [(process, variables) for process, variables in matches if _is_alive(process)]


def has_model_server(run_dir: Path) -> bool:
    """Whether the model server is alive. Nothing in a container restarts it."""
    return any("java" in _name(process) for process in list_processes(run_dir))


def _signal_receivers(alive: list[psutil.Process]) -> list[psutil.Process]:
    """Process 1 of the container, or the model server if the container has no process 1."""
    return [process for process in alive if _is_process_1(process)] or [
        process for process in alive if "java" in _name(process)
    ]


def _is_process_1(process: psutil.Process) -> bool:
    """Whether a process has number 1 in a namespace below this process's own."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def _is_serving(process: psutil.Process) -> bool:
    """Whether a process is the model server, or one of inf2kit's that answer calls."""
    try:
        return "java" in process.name() or any(
            part.startswith("inf2kit.serving.") for part in process.cmdline()
        )
    except psutil.Error:
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
        return name
    except psutil.Error:
        return ""


def _send_signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
