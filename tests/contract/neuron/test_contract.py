"""The contract with optimum-neuron, run against each of its versions: the container's, and the newest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.neuron import ROOT, VERSIONS, run_module


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    # Each on a worker of its own: they share nothing.
    "version",
    [pytest.param(version, marks=pytest.mark.xdist_group(f"neuron-{version}")) for version in VERSIONS],
)
def test_the_contract_holds(version: str, figure: Callable[[str], None]) -> None:
    """Every test of ``optimum/``, in an environment of its own."""
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(ROOT)]
    ended = run_module(version, "pytest", "tests/contract/neuron/optimum", *options, timeout_s=1100)
    assert ended.returncode == 0, ended.stdout[-6000:]
    lines = ended.stdout.splitlines()
    for line in lines:
        if line.startswith("neuron rows"):
            figure(f"optimum-neuron {version} on the CPU double, {line.removeprefix('neuron ')}")
    figure(f"optimum-neuron {version} on the CPU double: {lines[-1]}")
