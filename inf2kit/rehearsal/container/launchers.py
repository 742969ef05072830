"""Start a container with the launcher that ``$INF2KIT_CONTAINER`` selects.

The everyday launcher starts the model server with the toolkit's own configuration, as ordinary processes.
Only the folders of files and the addresses of listeners differ from the container's. The faithful launcher
runs the image's start command unchanged, in namespaces (see ``namespaces``); it takes some seconds longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from inf2kit import paths
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.container import namespaces
from inf2kit.rehearsal.container.spec import IMAGE_VARIABLES, SAGEMAKER_VARIABLES, ContainerSpec, java_home
from inf2kit.serving.variables import GATEWAY_ADDRESS, MODEL_SERVER_ADDRESS

LAUNCHER_VARIABLE = "INF2KIT_CONTAINER"
EVERYDAY, FAITHFUL = LAUNCHERS = ("everyday", "faithful")
#: Variables of the image that have the same meaning outside of it.
_PORTABLE_VARIABLES = ("LANG", "SAGEMAKER_SERVING_MODULE", "HF_HUB_USER_AGENT_ORIGIN")


def selected_launcher() -> str:
    """Return the name of the launcher that ``$INF2KIT_CONTAINER`` selects; ``everyday`` by default.

    Raises:
        LocalEndpointError: there is no launcher of that name, or this machine does not allow namespaces.
    """
    name = os.environ.get(LAUNCHER_VARIABLE) or EVERYDAY
    if name not in LAUNCHERS:
        raise LocalEndpointError(f"{LAUNCHER_VARIABLE} is {name!r}; it is one of: {', '.join(LAUNCHERS)}")
    if name == FAITHFUL and (reason := namespaces.why_unavailable()):
        raise LocalEndpointError(
            f"this machine does not let users create the namespaces of a faithful container ({reason}); "
            f"unset {LAUNCHER_VARIABLE} to use the everyday launcher"
        )
    return name


def start_container(spec: ContainerSpec) -> subprocess.Popen[bytes]:
    """Start a container with the selected launcher.

    Returns:
        The model server, or for the faithful launcher the process that keeps the container.

    Raises:
        LocalEndpointError: the launcher is not available, or the model server would listen on an address that
            is reachable from other machines.
    """
    if selected_launcher() == FAITHFUL:
        return namespaces.start_container(spec)
    environment = {name: os.environ[name] for name in ("HOME", "USER") if name in os.environ}
    environment |= {
        **{name: IMAGE_VARIABLES[name] for name in _PORTABLE_VARIABLES},
        **SAGEMAKER_VARIABLES,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        MARK: str(spec.run_dir),
        "SAGEMAKER_BASE_DIR": str(spec.base_dir),
        "TMPDIR": str(spec.run_dir),
        "TEMP": str(spec.run_dir),
        "LOG_LOCATION": str(spec.run_dir / "logs"),
        "METRICS_LOCATION": str(spec.run_dir / "logs"),
        "JAVA_HOME": java_home(),
        **_localize_variables(spec.variables, spec.run_dir, spec.port),
    }
    with spec.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "inf2kit.rehearsal.container.model_server"],
            env=environment,
            cwd=spec.run_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # In a session of its own it does not get the Ctrl-C of the terminal.
            start_new_session=True,
        )


def _localize_variables(variables: Mapping[str, str], run_dir: Path, port: int) -> dict[str, str]:
    """Replace the container's addresses and folders in the Model's variables with those of this machine.

    Values are replaced, but no variable is added: what the Model lacks would be missing on AWS too.

    Raises:
        LocalEndpointError: a listener's address is missing, so that it would listen on every network of this
            machine.
    """
    replacements = {
        GATEWAY_ADDRESS: f"127.0.0.1:{port}",
        "MMS_MANAGEMENT_ADDRESS": f"unix:{run_dir}/management.sock",
        MODEL_SERVER_ADDRESS: f"unix:{run_dir}/model-server.sock"
        if GATEWAY_ADDRESS in variables
        else f"http://127.0.0.1:{port}",
        # All endpoints share one folder: a model server starts seconds later if it must compile everything.
        "PYTHONPYCACHEPREFIX": str(paths.bytecode()),
    }
    for name in ("MMS_MANAGEMENT_ADDRESS", MODEL_SERVER_ADDRESS):
        if name not in variables:
            raise LocalEndpointError(
                f"the Model's environment lacks {name}; without it the model server listens on port 8080 of "
                "every address, with an interface that runs any code it is sent; take the environment that "
                "inf2kit's stacks set (inf2kit.package.environment.container_environment)"
            )
    return {name: replacements.get(name, value) for name, value in variables.items()}
