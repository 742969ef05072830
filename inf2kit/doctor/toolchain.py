"""What is installed: the extras, Node, the cdk command line, the embedded model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from inf2kit import catalog, extras
from inf2kit.doctor.finding import Finding, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.errors import ModelDirectoryError
from inf2kit.extras import install_command

#: The extras that commands need, and what for.
_PURPOSES = {
    "local": "local endpoints, packaging, compiling",
    "infra": "the CDK stacks",
    "cloud": "the rehearsal cloud",
}
#: What aws-cdk 2.1148.1 says in its own package.json.
_OLDEST_NODE = 18
_TIMEOUT_S = 30


def extras_installed(_: Surroundings) -> Iterator[Finding]:
    """Which extras are installed, and what for one would want the others."""
    missing = [name for name in _PURPOSES if not extras.is_installed(name)]
    if not extras.requirements():
        yield advice("inf2kit is not installed, but run from its sources", command="pip install -e .")
    elif missing:
        purposes = ", ".join(f"{name} ({_PURPOSES[name]})" for name in missing)
        install = install_command(*missing)
        yield advice(f"not installed: {purposes}", "the client and 'inf2kit presets' need none", install)
    else:
        yield ok(f"{', '.join(_PURPOSES)} are installed")


def node(surroundings: Surroundings) -> Iterator[Finding]:
    """Node, which cdk runs on."""
    complain = problem if surroundings.is_deployment else advice
    path = _find("node")
    if path is None:
        yield complain("there is no node", "cdk needs it", install_command("infra"))
        return
    version = _version_of(path)
    if version is None:
        yield complain(f"{path} does not run", "install another", install_command("infra"))
    elif version[0] < _OLDEST_NODE:
        text = f"{path} is {_dotted(version)}"
        yield complain(text, f"cdk needs {_OLDEST_NODE} or newer", install_command("infra"))
    else:
        yield ok(_dotted(version))


def cdk(surroundings: Surroundings) -> Iterator[Finding]:
    """The cdk command line, in the version that reads what the pinned library writes."""
    complain = problem if surroundings.is_deployment else advice
    install = f"npm install -g aws-cdk@{catalog.CDK_VERSION}"
    pinned = tuple(map(int, catalog.CDK_VERSION.split(".")))
    path = _find("cdk")
    if path is None:
        yield complain("there is no cdk", "'make setup' installs it in a checkout", install)
        return
    version = _version_of(path)
    if version is None:
        yield complain(f"{path} does not run", "it needs Node", install)
    elif version[0] == 3:
        hint = "npm's 3.0.0 was published by accident, and cannot read the app"
        yield problem(f"{path} is {_dotted(version)}", hint, install)
    elif version < pinned:
        hint = f"an older one cannot read what the library of {catalog.CDK_VERSION} writes"
        yield complain(f"{path} is {_dotted(version)}", hint, install)
    elif version > pinned:
        yield ok(f"{_dotted(version)}, newer than {catalog.CDK_VERSION}, which inf2kit is tested with")
    else:
        yield ok(_dotted(version))


def embedded_model(_: Surroundings) -> Iterator[Finding]:
    """The small model that stands in for Llama in rehearsals."""
    from inf2kit.rehearsal import model

    try:
        path = model.find_gguf()
    except ModelDirectoryError as error:
        text, _separator, command = str(error).rpartition("; run: ")
        yield advice(
            text or str(error), "rehearsals need it; endpoints on AWS do not", command if text else ""
        )
    else:
        megabytes = path.stat().st_size / 1e6
        yield ok(f"{model.DISTRIBUTION} {model.VERSION}, {megabytes:.0f} MB, its sha256 as expected")


def _find(command: str) -> str | None:
    """Find a command on PATH, where a shell finds it, or beside Python, where the extra installs it."""
    beside = Path(sys.executable).parent
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{beside}")


def _version_of(path: str) -> tuple[int, ...] | None:
    """Return the version that a command prints; None if it does not run."""
    beside = Path(sys.executable).parent
    variables = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{beside}"}
    # Neither notices nor telemetry: a check only reads.
    variables |= {"CI": "true", "CDK_DISABLE_CLI_TELEMETRY": "true"}
    try:
        ended = subprocess.run(
            [path, "--version"], env=variables, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", ended.stdout)
    return tuple(map(int, match.groups())) if match else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
