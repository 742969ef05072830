"""Faithful containers, which need namespaces, and the environment that 'make setup' has made for them."""

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
from tests.helpers import containers, packages
from tests.helpers.containers import Container, Deployable

PRESET = "tinyllama-1.1b-starter"


@pytest.fixture(scope="session", autouse=True)
def _allowed() -> None:
    """A machine without namespaces skips, and says so; but never in CI."""
    if why := namespaces.blocked():
        says = f"no namespaces, so no faithful container: {why}"
        pytest.fail(says) if os.environ.get("CI") else pytest.skip(says)


@pytest.fixture(scope="session")
def image_python(home: Path) -> Python:
    """With Python 3.10 where there is one ('make container-3.10'), else with the image's numpy and hub."""
    folders = [Path(sys.prefix) / name for name in ("container-3.10", "container")]
    folder = next((folder for folder in folders if (folder / "bin" / "python").exists()), None)
    if folder is None:
        pytest.fail(f"{folders[-1]} is missing; run 'make setup'")
    return Python.of(folder / "bin" / "python")


@pytest.fixture(scope="module")
def run(image_python: Python, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Container]]:
    """Start containers that are gone when the module ends."""
    started: list[Container] = []

    def start(deployable: Deployable, **extra: str) -> Container:
        started.append(containers.start(deployable, image_python, tmp_path_factory.mktemp("log"), **extra))
        return started[-1]

    yield start
    for each in started:
        assert processes.kill(each.run_dir) == []
        each.keeper.wait()
        shutil.rmtree(each.run_dir)


@pytest.fixture(scope="module")
def package(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Deployable]:
    """A deployable package, of the simulated backend or of a ``model``; ``changed`` makes it another one."""

    def lay_out(model: Path | None = None, *, changed: str = "") -> Deployable:
        contents: Any = collect(inf2kit.load_preset(PRESET), model or weights, rehearsal=True)
        contents = contents if model else packages.with_simulated_backend(contents)
        folder = tmp_path_factory.mktemp("package")
        if changed:
            contents = packages.with_changed_code(contents, tmp_path_factory.mktemp("code"), new=changed)
        return Deployable.from_contents(contents, PRESET, folder)

    return lay_out
