"""Fixtures: clients that find the rehearsal cloud by their environment, packages, resources."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import boto3
import pytest
from botocore.config import Config

import inf2kit
from inf2kit.package import collect
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers import packages
from tests.helpers.cloud import BIN, ROOT, publish_package, shell_environment
from tests.helpers.cloud_contents import BOOTSTRAP_STACK, CloudContents
from tests.helpers.cloudformation import StackMaker
from tests.helpers.sagemaker import ResourceMaker


@pytest.fixture(scope="session")
def cloud_contents(cloud: CloudSettings) -> CloudContents:
    """What the cloud contains."""
    return CloudContents(cloud)


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails in the middle leaves nothing that another test would meet."""
    if "cloud" not in request.fixturenames:
        yield
        return
    contents: CloudContents = request.getfixturevalue("cloud_contents")
    before = contents.list_names()
    yield
    contents.delete_all_but(before)


@pytest.fixture
def aws(cloud: CloudSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Create boto3 clients that find the cloud by this process's environment."""
    for name, value in lifecycle.environment(cloud).items():
        monkeypatch.setenv(name, value)
    for name in lifecycle.unset():
        monkeypatch.delenv(name, raising=False)
    # boto3's own session keeps the credentials of its first call for ever.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return lambda service, **options: boto3.session.Session().client(
        service,
        config=Config(**{"retries": {"total_max_attempts": 1}, "max_pool_connections": 32, **options}),
    )


@pytest.fixture
def cdk(cloud: CloudSettings, home: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real cdk in a shell's environment after ``eval "$(inf2kit cloud env)"``."""

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # cdk locks the folder that it synthesizes to, and tests run it in parallel.
        has_folder = "--app" in arguments or "--output" in arguments
        output = [] if has_folder else ["--output", mkdtemp(dir=tmp_path)]
        result = subprocess.run(
            [str(BIN / "cdk"), *arguments, "--ci", "--no-notices", *output],
            cwd=ROOT,
            env=shell_environment(cloud, home),
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    return run


@pytest.fixture
def bootstrapped(cdk: Callable[..., Any], aws: Callable[..., Any]) -> Callable[..., Any]:
    """The real cdk, with its bootstrap stack deployed, which stays for the tests after this one."""
    stacks = aws("cloudformation").describe_stacks()["Stacks"]
    if BOOTSTRAP_STACK not in [stack["StackName"] for stack in stacks]:
        cdk("bootstrap", "--app", "", "aws://123456789012/us-east-1")
    return cdk


@pytest.fixture(scope="session")
def _published() -> dict[tuple[str, str | None], str]:
    """The URIs of the packages that the cloud has, by preset and handler: each has hundreds of files."""
    return {}


@pytest.fixture
def package(
    aws: Callable[..., Any],
    _published: dict[tuple[str, str | None], str],
    tokenizer_only: Path,
    tmp_path: Path,
) -> Callable[..., str]:
    """Publish a package of a preset with the simulated backend, and return its URI."""

    def publish(preset: str, handler: str | None = None) -> str:
        if (preset, handler) not in _published:
            path = packages.write_handler(tmp_path / "handler.py", handler) if handler else None
            contents = collect(inf2kit.load_preset(preset), tokenizer_only, rehearsal=True, handler=path)
            uri = publish_package(packages.with_simulated_backend(contents))
            _published[preset, handler] = uri
        return _published[preset, handler]

    return publish


@pytest.fixture
def maker(aws: Callable[..., Any], package: Callable[..., str]) -> Iterator[ResourceMaker]:
    """Create models and endpoints of a package with the simulated backend; they are deleted."""
    preset = "tinyllama-1.1b-starter"
    resources = ResourceMaker(
        aws("sagemaker"), package(preset), container_environment(inf2kit.load_preset(preset))
    )
    yield resources
    resources.delete_all()


@pytest.fixture
def stacks(aws: Callable[..., Any]) -> Iterator[StackMaker]:
    """Create stacks; they are deleted."""
    maker = StackMaker(aws("cloudformation"))
    yield maker
    maker.delete_all()
