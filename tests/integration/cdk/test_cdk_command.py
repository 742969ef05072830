"""The real cdk command: what people type, without an account, a network or a variable."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inf2kit
from tests.helpers.cdk import NEURON_PRESETS, register_package

ROOT = Path(inf2kit.__file__).parents[1]
CDK = Path(sys.executable).with_name("cdk")


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def cdk(
    home: Path, *arguments: object, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it with nothing in the environment but a path and homes of the test's own."""
    variables = {
        "PATH": f"{CDK.parent}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "CDK_HOME": str(home / "cdk"),
        "INF2KIT_HOME": str(home),
        **environment,
    }
    command = [str(CDK), *map(str, arguments), "--no-notices", "--ci"]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_ls_shows_a_stack_for_each_preset(home: Path, tmp_path: Path) -> None:
    result = cdk(home, "ls", "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    stacks = {f"inf2-{inf2kit.load_preset(name).endpoint_name}" for name in NEURON_PRESETS}
    assert set(result.stdout.split()) == stacks


def test_context_of_the_user_and_of_lookups_is_passed_over(home: Path, tmp_path: Path) -> None:
    uri = register_package("llama2-7b-latency")
    write_json(home / ".cdk.json", {"context": {"aws-cdk:enableDiffNoFail": True, "owner": "a-team"}})
    lookup = {"availability-zones:account=123456789012:region=us-east-1": ["us-east-1a"]}
    write_json(tmp_path / "cdk.context.json", lookup)
    command = ("synth", "inf2-llama2-7b-latency", "-q", "-c", f"package={uri}", "--app", "python -m infra")
    result = cdk(home, *command, folder=tmp_path, PYTHONPATH=str(ROOT), CDK_VALIDATION="false")
    (home / ".cdk.json").unlink()
    assert result.returncode == 0, result.stderr
    assert "context 'owner' is no option of inf2kit" in result.stderr + result.stdout


def test_two_synths_are_the_same_to_the_last_byte(home: Path, tmp_path: Path) -> None:
    uri = register_package("llama2-7b-latency")
    for name in ("one", "two"):
        result = cdk(
            home, "synth", "inf2-llama2-7b-latency", "-q", "-c", f"package={uri}", "--output", tmp_path / name
        )
        assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "inf2-llama2-7b-latency.template.json" in names
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    _, differ, odd = filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False)
    assert (differ, odd) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["inf2-llama2-7b-latency"],
            "there is no package for the preset 'llama2-7b-latency'; give -c package=",
        ),
        (
            ["inf2-llama2-7b-latency", "-c", "packages=x"],
            "unknown context 'packages'; did you mean 'package'",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_a_failure(
    home: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """An error of one stack, and one of the whole app; the others are tested without the command."""
    result = cdk(home, "synth", "-q", "--output", tmp_path / "out", *arguments, CDK_VALIDATION="false")
    assert result.returncode != 0
    assert len([line for line in result.stderr.splitlines() if message in line]) == 1
    assert "Traceback" not in result.stderr


def test_the_wrong_cdk_is_named_before_it_fails(tmp_path: Path) -> None:
    """The release that npm calls latest cannot read what this library writes."""
    environment = {**os.environ, "CDK_CLI_VERSION": "3.0.0"}
    command = [sys.executable, "-m", "infra"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "inf2kit: this is cdk 3.0.0, which cannot read this app; use the one that package.json pins: npm ci, "
        "then npx cdk (or 'make setup', then the cdk in .venv/bin)\n"
    )


def test_node_comes_from_the_virtual_environment_where_the_system_has_none(
    home: Path, tmp_path: Path
) -> None:
    """The command finds its Node without one on the PATH."""
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("sh", "env", "bash", "dirname", "readlink", "uname"):
        (bare / name).symlink_to(str(shutil.which(name)))
    result = cdk(home, "--version", PATH=f"{CDK.parent}{os.pathsep}{bare}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2.1148.1")
