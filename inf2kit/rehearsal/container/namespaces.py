"""The faithful launcher: the image's start command in namespaces, without Docker and without root.

The container has its own root folder, its own processes and its own network, which has a loopback only. So
port 8080 is port 8080. The environment is that of the image, of SageMaker and of the Model, unchanged.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from inf2kit import paths
from inf2kit.client.local import MARK
from inf2kit.rehearsal.container.spec import IMAGE_VARIABLES, SAGEMAKER_VARIABLES, ContainerSpec, java_home

_PROBE_S = 10.0
_NEW_USER_AND_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]
#: ``--pdeathsig`` and ``--kill-child`` end every process of the container when its keeper ends.
NEW_CONTAINER = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
]


@dataclass(frozen=True)
class Python:
    """The Python environment that stands for the image's.

    Attributes:
        prefix: The environment's folder, which is ``/opt/conda`` in the container.
        base_prefix: The Python that the environment is based on; at the same path in the container.
        packages: The folders of packages, some of which may be elsewhere; at the same path in the container.
    """

    prefix: str
    base_prefix: str
    packages: list[str]

    @classmethod
    def current(cls) -> Python:
        """The Python that runs this process."""
        return cls(sys.prefix, sys.base_prefix, [sysconfig.get_path(name) for name in ("purelib", "platlib")])

    @classmethod
    def from_executable(cls, executable: Path) -> Python:
        """Another Python, with every folder of packages on its path."""
        script = (
            "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, "
            "[path for path in sys.path if path.endswith('-packages')]]))"
        )
        output = subprocess.run([executable, "-c", script], capture_output=True, text=True, check=True).stdout
        return cls(*json.loads(output))


@dataclass(frozen=True)
class Plan:
    """The layout of a container, as the processes that create it read it.

    Attributes:
        root: An empty folder, which becomes the container's root.
        model_dir: The folder that becomes ``/opt/ml/model``, read-only.
        scratch: The folder that becomes ``/home/model-server/tmp``, the image's ``TEMP``.
        bytecode: The folder of compiled Python modules, which the container writes.
        python: The Python that stands for the image's.
        java_home: The Java runtime that stands for the image's.
        variables: The whole environment of the container.
    """

    root: str
    model_dir: str
    scratch: str
    bytecode: str
    python: Python
    java_home: str
    variables: dict[str, str]

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan of ``to_json``."""
        values = json.loads(text)
        return cls(**{**values, "python": Python(**values["python"])})


@cache
def why_unavailable() -> str:
    """Say why this machine does not let users create namespaces; empty if it does."""
    missing = [name for name in ("unshare", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} of util-linux (Linux only) cannot be found"
    command = [*_NEW_USER_AND_NETWORK, *NEW_CONTAINER, "--mount-proc", "true"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else probe.stderr.strip() or f"unshare ended with {probe.returncode}"


def bytecode_folder(python: Python) -> Path:
    """The folder where containers with this Python keep compiled modules.

    Each Python has its own folder, because all are at the same path in the container.
    """
    return paths.bytecode() / python.prefix.replace("/", "+")


def start_container(spec: ContainerSpec, *, python: Python | None = None) -> subprocess.Popen[bytes]:
    """Start a faithful container.

    Args:
        spec: The container to start; its port leads to port 8080 of the container.
        python: The Python that stands for the image's; the one of this process by default.

    Returns:
        The process that keeps the container (see ``keeper``). The container ends with it.
    """
    python = python or Python.current()
    root, bytecode = spec.base_dir / "root", bytecode_folder(python)
    root.mkdir(exist_ok=True)
    bytecode.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        root=str(root),
        model_dir=str(spec.model_dir),
        scratch=str(spec.run_dir),
        bytecode=str(bytecode),
        python=python,
        java_home=java_home(),
        variables={**IMAGE_VARIABLES, **SAGEMAKER_VARIABLES, **spec.variables},
    )
    # A socket stays in the network namespace where it was created. So this one, which the keeper inherits,
    # connects the loopback of this machine to the keeper's network.
    with socket.socket() as listener, spec.log.open("ab") as output:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", spec.port))
        listener.listen(512)
        arguments = [str(listener.fileno()), plan.to_json()]
        return subprocess.Popen(
            [
                *_NEW_USER_AND_NETWORK,
                *(sys.executable, "-m", "inf2kit.rehearsal.container.keeper", *arguments),
            ],
            env={**os.environ, MARK: str(spec.run_dir)},
            cwd=spec.run_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            # In a session of its own it does not get the Ctrl-C of the terminal.
            start_new_session=True,
        )
