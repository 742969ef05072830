"""This machine: Python, folders, disk, memory, ports."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inf2kit import paths
from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.inventory import machine

#: The newest Python that inf2kit is tested with; pip refuses those before 3.10.
_NEWEST_TESTED = (3, 13)
_GB = 1e9
#: Gigabytes that a rehearsal takes on the disk: the prepared model, a package, and an endpoint's copy.
_DISK_GB = 4.0
#: Gigabytes of memory of one local endpoint with the embedded model: engine, model server and two workers.
_MEMORY_GB = 3.0
#: A socket's path has about 100 bytes, of which an endpoint needs 37.
_MAX_SOCKET_FOLDER = 66
#: The rehearsal cloud's default port.
_CLOUD_PORT = 4570
_MEMINFO = Path("/proc/meminfo")


def python(_: Surroundings) -> Iterator[Finding]:
    """The interpreter's version, and the system."""
    yield judge_python(sys.version_info[:2], sys.platform)


def judge_python(version: tuple[int, int], system: str) -> Finding:
    """Judge a Python on a system, as ``sys.platform`` names it."""
    text = f"{'.'.join(map(str, version))} on {system} {platform.machine()}"
    if system not in ("linux", "darwin"):
        return problem(text, "inf2kit runs on Linux and macOS; on Windows, use WSL")
    if version > _NEWEST_TESTED:
        return advice(text, f"inf2kit is tested with Python 3.10 to {'.'.join(map(str, _NEWEST_TESTED))}")
    return ok(text)


def folder(_: Surroundings) -> Iterator[Finding]:
    """Whether inf2kit's folder can be written, and sockets fit the folder of temporary files."""
    home = paths.home()
    nearest = _nearest_existing(home)
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        yield problem(
            f"{home} cannot be written", "choose a folder of yours", "export INF2KIT_HOME=$HOME/inf2kit"
        )
        return
    scratch = tempfile.gettempdir()
    if len(os.fsencode(scratch)) > _MAX_SOCKET_FOLDER:
        yield problem(
            f"{scratch} is too long for the sockets of local endpoints",
            f"use a folder of at most {_MAX_SOCKET_FOLDER} bytes",
            "export TMPDIR=/tmp",
        )
        return
    yield ok(str(home))


def disk(_: Surroundings) -> Iterator[Finding]:
    """Free space for rehearsals."""
    home = paths.home()
    yield judge_disk(shutil.disk_usage(_nearest_existing(home)).free, home)


def judge_disk(free_bytes: int, home: Path) -> Finding:
    """Judge the free bytes of the disk of inf2kit's folder."""
    text = f"{free_bytes / _GB:.1f} GB free for {home}"
    if free_bytes >= _DISK_GB * _GB:
        return ok(text)
    return advice(
        text,
        f"a rehearsal takes about {_DISK_GB:.0f} GB; a compilation says itself how much it needs",
        "export INF2KIT_HOME=FOLDER_ON_A_LARGER_DISK",
    )


def memory(_: Surroundings) -> Iterator[Finding]:
    """Free memory for a local endpoint."""
    yield judge_memory(_available_memory())


def judge_memory(available_bytes: float) -> Finding:
    """Judge the bytes that are available to new processes."""
    text = f"{available_bytes / _GB:.1f} GB available"
    if available_bytes >= _MEMORY_GB * _GB:
        return ok(text)
    return advice(text, f"a local endpoint with the embedded model takes about {_MEMORY_GB:.0f} GB")


def ports(_: Surroundings) -> Iterator[Finding]:
    """The rehearsal cloud's default port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _CLOUD_PORT))
        except OSError:
            if _is_cloud_here():
                yield ok(f"port {_CLOUD_PORT} is that of the rehearsal cloud, which runs")
                return
            yield advice(
                f"port {_CLOUD_PORT} is taken, perhaps by somebody else's rehearsal cloud",
                "a rehearsal cloud can have any other port",
                "inf2kit cloud up --port 0",
            )
            return
    yield ok(f"port {_CLOUD_PORT} of the rehearsal cloud is free")


def _is_cloud_here() -> bool:
    """Whether this home's own rehearsal cloud listens on the default port."""
    try:
        leftovers = machine.scan_machine()
    except (ImportError, OSError):
        return False
    return any(
        leftover.running and leftover.kind == "rehearsal cloud" and leftover.name.endswith(f":{_CLOUD_PORT}")
        for leftover in leftovers
    )


def _available_memory() -> float:
    """Return the bytes that are available to new processes."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        raise NotCheckedError("this system does not tell how much memory is available") from None


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
