"""Finding a local endpoint: what a caller must know of it, without anything of the rehearsal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from inf2kit import paths
from inf2kit.errors import LocalEndpointError

#: Every process of a local endpoint carries this variable with its run directory, and so is found whatever
#: session it is in, whatever its parent.
MARK = "INF2KIT_LOCAL_CONTAINER"
#: The file in an endpoint's folder that says how to reach it.
STATE_FILE = "state.json"


def local_endpoint_url(name: str) -> str | None:
    """The ``endpoint_url`` for boto3 of a local endpoint, or None where no such endpoint is up."""
    try:
        state = json.loads((paths.endpoint(name) / STATE_FILE).read_text(encoding="utf-8"))
        pid, run_dir, port = int(state["host_pid"]), str(state["run_dir"]), int(state["runtime_port"])
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
