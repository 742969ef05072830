"""A double of the Hugging Face hub, and inf2kit's commands calling it with the real client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.helpers import tiny_llama
from tests.helpers.hub_double import HubDouble
from tests.helpers.servers import PATIENCE_S

#: Pythons with the client of the development environment, and with the container's 0.35.
PYTHONS = {"0.36": sys.executable, "0.35": str(Path(sys.prefix) / "container/bin/python")}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def _server() -> Iterator[HubDouble]:
    with HubDouble().serving() as hub:
        yield hub


@pytest.fixture
def hub(_server: HubDouble) -> Iterator[HubDouble]:
    """A hub without repositories, accounts and faults."""
    yield _server
    _server.clear()


@pytest.fixture(scope="session")
def llama(weights: Path) -> Mapping[str, bytes]:
    """The files of a small model."""
    return tiny_llama.build(weights)


@pytest.fixture(scope="session")
def large_llama(weights: Path) -> Mapping[str, bytes]:
    """The files of a model with 28 MB in each file of weights."""
    return tiny_llama.build(weights, hidden=288)


@pytest.fixture
def environment(hub: HubDouble, tmp_path: Path) -> dict[str, str]:
    """The environment of a command: the double for a hub, an empty cache, no token."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **inherited,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "INF2KIT_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run an inf2kit command, and return its end."""

    def run(
        *arguments: str | Path, client: str = "0.36", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [PYTHONS[client], "-m", "inf2kit.cli", *map(str, arguments)],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert "Traceback" not in ended.stderr
        return ended

    return run
