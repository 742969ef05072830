"""Where inf2kit keeps what it makes: prepared models and the state of local endpoints."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from inf2kit.errors import LocalEndpointError

#: Every process of a local endpoint carries this variable with its run directory, and so is found whatever
#: session it is in, whatever its parent.
MARK = "INF2KIT_LOCAL_CONTAINER"
#: SageMaker's own rule for an EndpointName.
ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def home() -> Path:
    """``$INF2KIT_HOME``, or ``inf2kit`` in the user's cache folder."""
    given = os.environ.get("INF2KIT_HOME")
    if given:
        return Path(given).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "inf2kit"


def private(folder: Path) -> None:
    """Make a folder that nobody but its owner looks into; one that is there already is closed to others."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in dict.fromkeys((home(), folder)):
        found = each.stat() if each.exists() else None
        # A home may be put into a folder that many people share, such as /tmp; that one stays as it is.
        if found and found.st_uid == os.getuid() and not found.st_mode & stat.S_ISVTX:
            with contextlib.suppress(OSError):  # a file system without modes
                each.chmod(0o700)


def models() -> Path:
    """The folder of prepared models."""
    return home() / "models"


def bytecode() -> Path:
    """Where the containers' processes keep compiled Python, never beside a package's sources."""
    return home() / "bytecode"


def prices() -> Path:
    """The prices that the user has refreshed."""
    return home() / "prices.toml"


def manifest(digest: str) -> Path:
    """The copy that packaging leaves of a package's manifest, so that a synth needs no network."""
    return home() / "packages" / f"{digest}.json"


def keep_manifest(digest: str, content: bytes) -> None:
    """Leave that copy."""
    path = manifest(digest)
    private(path.parent)
    path.write_bytes(content)


def endpoints() -> Path:
    """The folder of local endpoints, one folder each, with its ``state.json``."""
    return home() / "endpoints"


def endpoint(name: str) -> Path:
    """The folder of one local endpoint.

    Raises:
        LocalEndpointError: the name could not be an endpoint's, and might be a path to somewhere else.
    """
    if not ENDPOINT_NAME.fullmatch(name):
        raise LocalEndpointError(
            f"{name!r} cannot be an endpoint's name; "
            "use up to 63 letters and digits, with single '-' between them"
        )
    return endpoints() / name


def endpoint_name(preset: str) -> str:
    """A preset's name in the letters that SageMaker allows in an endpoint's name."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", preset).strip("-")


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time is inside.

    Args:
        name: Of what it changes.
    """
    private(home())
    with open(home() / f".{name}.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def delete(folder: Path) -> None:
    """Delete a folder, what is read-only in it too."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                (Path(parent) / name).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def local_endpoint_url(name: str) -> str | None:
    """The ``endpoint_url`` for boto3 of a local endpoint, or None where no such endpoint is up."""
    try:
        state = json.loads((endpoint(name) / "state.json").read_text(encoding="utf-8"))
        pid, run_dir, port = int(state["host_pid"]), str(state["run_dir"]), int(state["front_port"])
    except (OSError, ValueError, TypeError, KeyError, LocalEndpointError):
        return None
    # A host that was killed leaves its state, and its port may be somebody else's by now.
    return f"http://127.0.0.1:{port}" if pid and _keeps(pid, run_dir, port) else None


def _keeps(pid: int, run_dir: str, port: int) -> bool:
    """Whether a process is the host that its endpoint's state names."""
    if Path("/proc/self/environ").exists():
        try:
            return f"{MARK}={run_dir}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
    try:
        os.kill(pid, 0)
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
