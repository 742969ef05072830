"""Run modules in the environments that have an optimum-neuron."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.servers import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("0.4.1", "0.4.5")


def find_python(version: str) -> str:
    """Return the Python of an environment that 'make setup' creates."""
    path = Path(sys.prefix) / f"neuron-{version}" / "bin" / "python"
    if not path.exists():
        pytest.fail(f"{path} is missing; run 'make setup'")
    return str(path)


def run_module(
    version: str, *arguments: str, timeout_s: float = PATIENCE_S, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...`` there; standard error is merged into the output."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "inference")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [find_python(version), "-m", *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )
