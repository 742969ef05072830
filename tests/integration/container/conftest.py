"""Fixtures for faithful containers, which need namespaces and an environment that 'make setup' creates."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit.package import collect
from inf2kit.rehearsal.container import namespaces, processes
from inf2kit.rehearsal.container.namespaces import Python
from tests.helpers import bytecode, containers, packages
from tests.helpers.containers import Container, Deployable

PRESET = "tinyllama-1.1b-starter"


@pytest.fixture(scope="session", autouse=True)
def _namespaces() -> None:
    """Skip the tests on a machine without namespaces; in CI they fail."""
    if reason := namespaces.why_unavailable():
        message = f"no namespaces, so no faithful container: {reason}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture(scope="session")
def image_python(home: Path) -> Python:
    """Python 3.10 if it is installed ('make container-3.10'), else with the image's numpy and hub client."""
    folders = [Path(sys.prefix) / name for name in ("container-3.10", "container")]
    folder = next((folder for folder in folders if (folder / "bin" / "python").exists()), None)
    if folder is None:
        pytest.fail(f"{folders[-1]} is missing; run 'make setup'")
    python = Python.from_executable(folder / "bin" / "python")
    bytecode.seed(namespaces.bytecode_folder(python))
    return python


@pytest.fixture(scope="module")
def run(image_python: Python, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Container]]:
    """Return a function that starts containers, which are killed when the module ends."""
    started: list[Container] = []

    def start(deployable: Deployable, **extra: str) -> Container:
        started.append(containers.start(deployable, image_python, tmp_path_factory.mktemp("log"), **extra))
        return started[-1]

    yield start
    for container in started:
        assert processes.kill(container.run_dir) == []
        container.keeper.wait()
        shutil.rmtree(container.run_dir)


@pytest.fixture(scope="module")
def package(tokenizer_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Deployable]:
    """Return a function that builds a package, of the simulated backend or of a model, with code appended."""

    def build(model: Path | None = None, *, appended: str = "") -> Deployable:
        contents: Any = collect(inf2kit.load_preset(PRESET), model or tokenizer_only, rehearsal=True)
        contents = contents if model else packages.with_simulated_backend(contents)
        folder = tmp_path_factory.mktemp("package")
        if appended:
            contents = packages.with_changed_code(contents, tmp_path_factory.mktemp("code"), new=appended)
        return Deployable.from_contents(contents, PRESET, folder)

    return build
