"""Every command with the core of inf2kit alone: it works, or says in one sentence which extra it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import core_environment, packages

ONE_WORKER = pytest.mark.xdist_group("core environment")
COMMANDS = Path(__file__).parents[2] / "helpers" / "run_commands.py"
#: Commands that work without any extra, and without AWS.
WORK = [
    "--version",
    "cleanup --local",
    "doctor --offline",
    "doctor --offline --json",
    "presets",
    "presets check",
    "presets check llama2-7b-budget",
    "prices",
    "plan llama2-7b-throughput --rate 1 --seeds 2",
    "verify-device --questions",
]
#: Commands by the extras that they name.
NEED = {
    "bench": [
        "plan llama2-7b-throughput --rate 1 --seeds 2 --chart {folder}/plan",
        "bench tables nobody",
        "bench load nobody",
        "bench compare {folder}/model/config.json {folder}/model/config.json",
    ],
    "local": ["local up smollm2-135m-local", "local status", "local logs nobody", "local down nobody"],
    "local,cloud": ["cloud up", "cloud env", "cloud status", "cloud logs nobody", "cloud down"],
    "local,infra,cloud": ["demo"],
}
NEED["local"] += ["local down --all", "demo --quick", "compile smollm2-135m-local --output {folder}/packages"]
NEED["local"] += [
    "package {folder}/model --preset smollm2-135m-local --output {folder}/packages",
    "package embedded --preset smollm2-135m-local --output {folder}/packages",
]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return core_environment.build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    """A Python of each version that this machine has."""
    return core_environment.find_pythons()


@pytest.fixture(scope="session")
def core_python(
    wheel: Path, pythons: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The Python of a version's core environment, which is created once."""
    return cache(
        lambda version: core_environment.create(
            pythons[version], wheel, tmp_path_factory.mktemp("core") / version
        )
    )


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    variables.pop("PYTHONPATH", None)
    variables |= {"AWS_EC2_METADATA_DISABLED": "true", "INF2KIT_HOME": str(folder / "home")}
    variables |= {
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "version",
    # The tests that share an environment share a worker.
    ["3.10", pytest.param("3.11", marks=ONE_WORKER), "3.12", "3.13"],
)
def test_every_command_works_or_names_its_extra(
    version: str,
    pythons: dict[str, str],
    core_python: Callable[[str], Path],
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    if version not in pythons:
        figure(f"no Python {version} on this machine: its core environment is not tested")
        return
    packages.write_weights(tmp_path / "model", length=64)
    python = core_python(version)
    clients = run(python, "-c", CLIENTS, folder=tmp_path)
    assert (clients.returncode, clients.stdout) == (0, "e e\n"), clients.stderr
    result = run(python, COMMANDS, tmp_path, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    outcomes: dict[str, dict[str, Any]] = {
        outcome["command"]: outcome for outcome in json.loads(result.stdout)
    }
    assert len(outcomes) > 60, "every command, its variants and its --help"
    for command, outcome in outcomes.items():
        output = outcome["output"]
        assert not outcome["traceback"], f"{command}\n{outcome['traceback']}"
        if outcome["status"] == 0:
            continue
        assert output.splitlines()[-1].startswith("Error: "), f"{command}\n{output}"
        # Whatever is missing, the sentence has the command that installs it.
        if "not installed" in output:
            assert re.search(r"pip install 'inf2kit\[[a-z,]+\]'$", output.strip()), f"{command}\n{output}"
    for command in [*WORK, *(command for command in outcomes if command.endswith("--help"))]:
        assert outcomes[command]["status"] == 0, outcomes[command]["output"]
    missing = "extras: not installed: local (local endpoints, packaging, compiling), infra (the CDK stacks), "
    assert missing in outcomes["doctor --offline"]["output"]
    for extra, commands in NEED.items():
        for command in commands:
            outcome = outcomes[command.format(folder=tmp_path)]
            assert outcome["status"] == 1, command
            assert outcome["output"].strip().endswith(f"pip install 'inf2kit[{extra}]'"), outcome["output"]
    figure(f"Python {version}: {len(outcomes)} commands with the core alone")


CLIENTS = """
import inf2kit
for name in inf2kit.__all__:
    getattr(inf2kit, name)
print(*[client("e", region_name="eu-west-1").name for client in (inf2kit.Endpoint, inf2kit.AsyncEndpoint)])
"""
LOAD = """
import sys, inf2kit
try:
    inf2kit.load(sys.argv[1])
except inf2kit.Inf2KitError as error:
    print(error)
"""


@ONE_WORKER
def test_a_model_in_this_process_names_its_extra(core_python: Callable[[str], Path], tmp_path: Path) -> None:
    packages.write_weights(tmp_path / "model", length=64)
    python = core_python("3.11")
    result = run(python, "-c", LOAD, tmp_path / "model", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip().endswith("pip install 'inf2kit[local]'")


@ONE_WORKER
def test_the_cdk_app_names_its_extra(core_python: Callable[[str], Path], tmp_path: Path) -> None:
    python = core_python("3.11")
    (tmp_path / "infra").symlink_to(core_environment.ROOT / "infra")
    result = run(python, "-m", "infra", folder=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.strip().endswith("run: pip install 'inf2kit[infra]'")


@ONE_WORKER
def test_the_core_environment_has_the_core_alone(core_python: Callable[[str], Path], tmp_path: Path) -> None:
    python = core_python("3.11")
    program = "import importlib.metadata as m; print(*sorted(d.metadata['Name'] for d in m.distributions()))"
    names = set(run(python, "-c", program, folder=tmp_path).stdout.split())
    assert {"boto3", "botocore", "click", "inf2kit"} <= names
    assert not {"psutil", "torch", "uvicorn", "pytest", "pip"} & names
    script = python.parent / "inf2kit"
    assert run(script, "--version", folder=tmp_path).stdout.startswith("inf2kit, version ")
    sentence = (
        "'inf2kit local status' needs 'psutil', which is not installed; run: pip install 'inf2kit[local]'"
    )
    assert run(script, "local", "status", folder=tmp_path).stderr == f"Error: {sentence}\n"
