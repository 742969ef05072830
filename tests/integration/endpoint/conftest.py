"""Local endpoints for tests, which leave nothing running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers import packages
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.simulated_preset import write_preset


@pytest.fixture(scope="session")
def base_tokenizer_only(tokenizer_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as of a base model: without a chat template."""
    folder = tmp_path_factory.mktemp("base") / "weights"
    return packages.link_files(tokenizer_only, folder, "chat_template.jinja")


@pytest.fixture(scope="module")
def start(tokenizer_only: Path) -> Iterator[Callable[..., EndpointState]]:
    """Start endpoints of the simulated backend, which are stopped when the module ends.

    Nothing of them may be left.
    """
    started: list[EndpointState] = []

    def up(preset: str, **options: Any) -> EndpointState:
        started.append(start_endpoint(preset, **{"weights": tokenizer_only, **options}))
        return started[-1]

    yield up
    for state in started:
        LocalEndpoint(state.name).stop()
        assert processes.list_processes(Path(state.run_dir)) == []
        assert not Path(state.run_dir).exists()


@pytest.fixture(scope="session")
def served(weights: Path) -> Iterator[EndpointState]:
    """The real model, for every test that only calls it."""
    state = start_endpoint("smollm2-135m-local", name="served", weights=weights)
    yield state
    LocalEndpoint(state.name).stop()
    assert processes.list_processes(Path(state.run_dir)) == []


@pytest.fixture(scope="session")
def doubles(
    tokenizer_only: Path, base_tokenizer_only: Path, simulated_preset: str
) -> Iterator[dict[str, EndpointState]]:
    """The endpoints with the simulated backend that several tests share, started side by side."""
    slow = {"INF2KIT_SIMULATED_STEP_SECONDS": "0.02"}
    choices: dict[str, tuple[dict[str, str], Path]] = {
        "victim": (slow, tokenizer_only),
        "hurried": ({**slow, "INF2KIT_DEADLINE_SECONDS": "4"}, base_tokenizer_only),
    }
    with ThreadPoolExecutor(len(choices)) as pool:
        starts = {
            name: pool.submit(start_endpoint, simulated_preset, name=name, variables=variables, weights=files)
            for name, (variables, files) in choices.items()
        }
    states = {name: start.result() for name, start in starts.items()}
    yield states
    for state in states.values():
        LocalEndpoint(state.name).stop()
        assert processes.list_processes(Path(state.run_dir)) == []


@pytest.fixture(scope="session")
def victim(doubles: dict[str, EndpointState]) -> EndpointState:
    """The simulated backend, slow enough to be killed in the middle: 400 tokens take 8 s."""
    return doubles["victim"]


@pytest.fixture(scope="session")
def hurried(doubles: dict[str, EndpointState]) -> EndpointState:
    """The simulated backend as a base model: 8 rows, a queue of 4, 50 tokens a second, a deadline of 4 s."""
    return doubles["hurried"]


@pytest.fixture(scope="session")
def eager(tokenizer_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointState]:
    """The simulated backend as fast as it can: 8 rows of 256 tokens, a queue of 64."""
    preset = write_preset(tmp_path_factory.mktemp("eager") / "eager.toml", sequence_length=256)
    variables = {"INF2KIT_SIMULATED_STEP_SECONDS": "0", "INF2KIT_QUEUE_SIZE": "64"}
    state = start_endpoint(preset, name="eager", variables=variables, weights=tokenizer_only)
    yield state
    LocalEndpoint(state.name).stop()
    assert processes.list_processes(Path(state.run_dir)) == []


@pytest.fixture
def caller(served: EndpointState) -> EndpointCaller:
    """boto3 for the served endpoint."""
    return EndpointCaller(served)
