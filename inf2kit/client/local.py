"""The address of a local endpoint, read from its state file. The client does not import the rehearsal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from inf2kit import paths
from inf2kit.errors import LocalEndpointError

#: A variable in the environment of every process of a local endpoint. Its value is the run directory, which
#: identifies the endpoint's processes in any session and under any parent.
MARK = "INF2KIT_LOCAL_CONTAINER"
#: The file in an endpoint's folder that holds its address.
STATE_FILE = "state.json"
#: The region of local endpoints, as far as a signature names one.
REGION = "us-east-1"


def local_endpoint_url(name: str) -> str | None:
    """Return boto3's ``endpoint_url`` for a local endpoint, or None if no such endpoint is running."""
    return _local_url(name, "runtime_port")


def running_local_endpoints() -> list[str]:
    """Return the names of the local endpoints that are running."""
    try:
        names = sorted(folder.name for folder in paths.endpoints().iterdir())
    except (OSError, LocalEndpointError):
        return []
    return [name for name in names if local_endpoint_url(name)]


def local_gateway_url(name: str) -> str | None:
    """Return the address of a local endpoint's container, which has ``/metrics``; None if none is running."""
    return _local_url(name, "gateway_port")


def _local_url(name: str, key: str) -> str | None:
    try:
        state = json.loads((paths.endpoint(name) / STATE_FILE).read_text(encoding="utf-8"))
        pid, run_dir = int(state["host_pid"]), str(state["run_dir"])
        runtime_port, port = int(state["runtime_port"]), int(state[key])
    except (OSError, ValueError, TypeError, KeyError, LocalEndpointError):
        return None
    # A killed host leaves its state file; another program may use the process id or the port by now.
    return f"http://127.0.0.1:{port}" if pid and _is_host(pid, run_dir, runtime_port) else None


def local_endpoint_preset(name: str) -> str | None:
    """Return the preset of a local endpoint, a name or a path, or None if it is not known."""
    try:
        return str(json.loads((paths.endpoint(name) / STATE_FILE).read_text(encoding="utf-8"))["preset"])
    except (OSError, ValueError, TypeError, KeyError, LocalEndpointError):
        return None


def _is_host(pid: int, run_dir: str, port: int) -> bool:
    """Whether a process is the host of the endpoint with this run directory.

    Linux shows a process's environment. Elsewhere, a living process and an open port have to do.
    """
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
