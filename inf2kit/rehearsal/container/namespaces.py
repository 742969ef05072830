"""A faithful container: the image's start in namespaces of its own, without Docker and without root.

It has its own root folder, processes and network, with nothing but a loopback; so port 8080 is port 8080. Its
variables are the image's, those that SageMaker adds, and the Model's, as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from inf2kit import paths
from inf2kit.client.local import MARK

#: What the image's Dockerfile sets (PATH and the libraries' path as they are after it), and what Docker adds.
IMAGE_VARIABLES = {
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": "/opt/aws/neuron/lib:/lib/x86_64-linux-gnu:/opt/conda/lib/:",
    "PATH": "/opt/conda/bin:/opt/aws/neuron/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
    "TEMP": "/home/model-server/tmp",
    "HF_HUB_USER_AGENT_ORIGIN": "aws:sagemaker:neuron:inference:regular",
    "HOME": "/root",
    "HOSTNAME": "container-0",
}
#: What SageMaker adds. The credentials' address is not reachable, as with network isolation.
SAGEMAKER_VARIABLES = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/rehearsal",
}
_PROBE_S = 10.0
_NEW_USER_AND_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]
#: ``--kill-child`` and a signal at the parent's death: whatever ends first, nothing of the container is left.
NEW_CONTAINER = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
]


@dataclass(frozen=True)
class Python:
    """The Python that stands in for the image's.

    Attributes:
        prefix: Its environment, which is ``/opt/conda`` in the container.
        base_prefix: What the environment is made from; at the same path in the container.
        packages: Its folders of packages, some of which may lie elsewhere; at the same path.
    """

    prefix: str
    base_prefix: str
    packages: list[str]

    @classmethod
    def own(cls) -> Python:
        """The one that runs this."""
        return cls(sys.prefix, sys.base_prefix, [sysconfig.get_path(name) for name in ("purelib", "platlib")])

    @classmethod
    def of(cls, executable: Path) -> Python:
        """Another one, with every folder of packages that it sees."""
        script = (
            "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, "
            "[path for path in sys.path if path.endswith('-packages')]]))"
        )
        output = subprocess.run([executable, "-c", script], capture_output=True, text=True, check=True).stdout
        return cls(*json.loads(output))


@dataclass(frozen=True)
class Plan:
    """What a container is made of; the processes that make it read this.

    Attributes:
        root: An empty folder that becomes its root.
        model_dir: Becomes ``/opt/ml/model``, read-only.
        scratch: Becomes ``/home/model-server/tmp``, the image's ``TEMP``.
        bytecode: Becomes the folder where the container's Python keeps what it has compiled.
        python: Stands in for the image's.
        java_home: Stands in for the image's Java.
        variables: All of its environment.
    """

    root: str
    model_dir: str
    scratch: str
    bytecode: str
    python: Python
    java_home: str
    variables: dict[str, str]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """From ``to_json``."""
        values = json.loads(text)
        return cls(**{**values, "python": Python(**values["python"])})


@cache
def blocked() -> str:
    """Why this machine does not let a user make namespaces; empty where it does."""
    missing = [name for name in ("unshare", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"there is no {' and no '.join(missing)} here (util-linux, of Linux)"
    command = [*_NEW_USER_AND_NETWORK, *NEW_CONTAINER, "--mount-proc", "true"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else probe.stderr.strip() or f"unshare ended with {probe.returncode}"


def bytecode(python: Python) -> Path:
    """Where a Python in containers keeps what it has compiled of its packages.

    A folder for each: in the container all of them are at the same path.
    """
    return paths.bytecode() / python.prefix.replace("/", "+")


def start(
    base_dir: Path,
    run_dir: Path,
    variables: Mapping[str, str],
    *,
    port: int,
    log: Path,
    java_home: str,
    python: Python | None = None,
) -> subprocess.Popen[bytes]:
    """Start a container.

    Args:
        base_dir: The model directory is ``base_dir/model``.
        run_dir: Is ``/home/model-server/tmp`` in the container.
        variables: The environment that the Model resource would set.
        port: Of this machine's loopback; leads to port 8080 of the container.
        log: Stands in for CloudWatch.
        java_home: Stands in for the image's Java.
        python: Stands in for the image's Python; the one that runs this by default.

    Returns:
        The process that keeps the container, marked with ``run_dir``; the container ends with it.
    """
    import socket

    python = python or Python.own()
    root, model_dir = base_dir / "root", base_dir / "model"
    root.mkdir(exist_ok=True)
    compiled = bytecode(python)
    compiled.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        root=str(root),
        model_dir=str(model_dir),
        scratch=str(run_dir),
        bytecode=str(compiled),
        python=python,
        java_home=java_home,
        variables={**IMAGE_VARIABLES, **SAGEMAKER_VARIABLES, **variables},
    )
    # Bound here and handed on: a socket stays in the network where it was made, so this one leads from this
    # machine's loopback to the process that keeps the container.
    with socket.socket() as listener, log.open("ab") as output:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        command = [
            sys.executable,
            "-m",
            "inf2kit.rehearsal.container.keeper",
            str(listener.fileno()),
            plan.to_json(),
        ]
        return subprocess.Popen(
            [*_NEW_USER_AND_NETWORK, *command],
            env={**os.environ, MARK: str(run_dir)},
            cwd=run_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            # A session of its own: a key pressed in the terminal is not meant for it.
            start_new_session=True,
        )
