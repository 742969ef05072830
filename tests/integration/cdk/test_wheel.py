"""The built wheel in an environment of its own: what it holds, and a user's own CDK app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit.package import code
from tests.helpers.cdk import register_package

PACKAGE = Path(inf2kit.__file__).parent
ROOT = PACKAGE.parent
PRESET = "llama2-7b-throughput"
#: What a user writes, with a stack whose role calls the endpoint.
APP = """
import sys

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

import inf2kit
from inf2kit.cdk import DeployedPackage, EndpointProps, EndpointStack

app = cdk.App(outdir="cdk.out")
package = DeployedPackage.from_uri(sys.argv[1])
props = EndpointProps(preset=inf2kit.load_preset("llama2-7b-throughput"), package=package, max_instances=4)
endpoint = EndpointStack(app, "llama", props=props)
backend = cdk.Stack(app, "backend")
role = iam.Role(backend, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
endpoint.grant_invoke(role)
app.synth()
print(inf2kit.__file__)
"""


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command that must not see the checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel, and none of its dependencies."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    return python


@pytest.fixture(scope="module")
def python(bare_python: Path) -> Path:
    """The same with the dependencies of the environment that runs the tests."""
    (site_packages,) = bare_python.parents[1].glob("lib/python3.*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return bare_python


def statements(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        statement
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::IAM::Policy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    ]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    container = {f"inf2kit/_inference/{name}" for name in ("inference.py", "vendor.txt")}
    assert names == files | container
    assert {"inf2kit/py.typed", "inf2kit/verify/questions.toml", f"inf2kit/presets/{PRESET}.toml"} <= names
    assert {f"inf2kit/catalog/{name}.toml" for name in ("image", "instances", "models", "prices")} <= names


def test_without_the_extra_one_sentence_names_it(bare_python: Path, tmp_path: Path) -> None:
    result = run(bare_python, "-c", "import inf2kit.cdk", cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "ImportError: inf2kit.cdk needs the AWS CDK, which is not installed; "
        "run: pip install 'inf2kit[infra]'"
    )


def test_an_app_of_ones_own_deploys_an_endpoint_and_grants_a_role_its_use(
    python: Path, home: Path, tmp_path: Path
) -> None:
    uri = register_package(PRESET)
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    result = run(python, "app.py", uri, cwd=tmp_path)
    assert Path(result.stdout.strip()).is_relative_to(python.parents[1]), "not the checkout's inf2kit"
    templates = {
        name: json.loads((tmp_path / f"cdk.out/{name}.template.json").read_text(encoding="utf-8"))
        for name in ("llama", "backend")
    }
    resources = templates["llama"]["Resources"].values()
    (model,) = [resource for resource in resources if resource["Type"] == "AWS::SageMaker::Model"]
    container = model["Properties"]["PrimaryContainer"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == uri
    (idle,) = [
        resource["Properties"]["AlarmDescription"]
        for resource in resources
        if resource["Properties"].get("AlarmName") == f"{PRESET}-IdleMoney"
    ]
    assert idle.endswith("cdk destroy llama"), "the stack's name in this app"
    grant, token = statements(templates["backend"])
    assert grant["Action"] == ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"]
    assert token["Action"] == "sagemaker:CallWithBearerToken"
    assert f":endpoint/{PRESET}" in json.dumps(grant["Resource"])
    assert "Fn::ImportValue" not in json.dumps(templates), "either stack can be deployed without the other"


def test_an_installed_inf2kit_packages_the_containers_code(python: Path, tmp_path: Path) -> None:
    script = "from inf2kit.package import code; print(*sorted(code.list_files()), sep='\\n')"
    result = run(python, "-c", script, cwd=tmp_path)
    assert result.stdout.splitlines() == sorted(code.list_files())
