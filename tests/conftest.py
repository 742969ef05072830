"""Fixtures: a home of the tests' own, the embedded model, and endpoints that leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from inf2kit.rehearsal import model
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local import endpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers import packages
from tests.helpers.local_endpoint import EndpointCaller

TEST_PRESET = """
description = "The simulated backend: eight rows, tokens made up"
status = "simulated"
[model]
id = "inf2kit/simulated"
gated = false
[shapes]
batch_size = 8
sequence_length = 2048
[compute]
backend = "simulated"
instance_type = "local"
tensor_parallel_size = 1
dtype = "float32"
[serving]
queue_size = 4
"""


#: Files that go together, since they share endpoints that take long to start; the longest first, as a worker
#: takes the next group when it has done one. Every other file is a group of its own.
_GROUPS = {
    "model": ("answers", "bad_input", "exactness", "local_commands", "metrics"),
    "path": ("the_whole_path",),
    "options": ("options",),
    "cloud": ("cdk", "clients", "commands", "hosting", "every_option", "objects", "stacks", "web_pages"),
    "doubles": ("faults", "limits", "listeners", "readiness", "soak"),
    "container": ("life", "launcher"),
    "contract": ("contract",),
    "compile": ("compile",),
}
_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    """Node and cdk lie beside Python; and each of several workers has a core of its own.

    torch's threads wait for each other: a second process on their cores makes them many times slower.
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def _group_of(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    name = file.rpartition("/test_")[2].removesuffix(".py")
    shared = file.startswith(("tests/integration/", "tests/contract/"))
    return next((group for group, names in _GROUPS.items() if shared and name in names), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long groups first."""
    order = {group: place for place, group in enumerate(_GROUPS)}
    items.sort(key=lambda item: order.get(_group_of(item.nodeid), len(order)))


class _Scheduler(LoadScopeScheduling):
    """xdist's own marks of groups do nothing with this pytest."""

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduler:
    """Groups by what tests share."""
    return _Scheduler(config, log)


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print a figure at the end of the run, where a passing test's own output is not shown."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its figures to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = session.config.stash.get(_FIGURES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The figures of a worker that has ended."""
    found = getattr(node, "workeroutput", {}).get("figures", [])
    node.config.stash.setdefault(_FIGURES, []).extend(found)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The figures of this run."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The embedded model, from the user's cache."""
    return model.prepare()


@pytest.fixture(scope="session")
def base_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a base model: without a chat template."""
    return packages.link_files(weights, tmp_path_factory.mktemp("base") / "weights", "chat_template.jinja")


@pytest.fixture(scope="session")
def small_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's first four layers: a real Llama that loads in no time, and talks nonsense."""
    # Not above: torch counts its threads when it is imported, which must be after a worker has its core.
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("small") / "weights"
    path = packages.link_files(weights, folder, ".safetensors", "config.json")
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}), encoding="utf-8")
    (file,) = weights.glob("*.safetensors")
    layer = re.compile(r"model\.layers\.(\d+)\.")
    with safe_open(file, "pt") as tensors:
        found = {name: layer.match(name) for name in set(tensors.keys())}
        kept = [name for name, of in found.items() if not of or int(of[1]) < 4]
        first = {name: tensors.get_tensor(name) for name in kept}
    save_file(first, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, so that the user's endpoints are not touched."""
    prepared = model.prepare()
    path = tmp_path_factory.mktemp("home")
    (path / "models").symlink_to(prepared.parent)
    before = os.environ.get("INF2KIT_HOME")
    os.environ["INF2KIT_HOME"] = str(path)
    yield path
    os.environ.pop("INF2KIT_HOME")
    if before is not None:
        os.environ["INF2KIT_HOME"] = before


@pytest.fixture(scope="session")
def simulated_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A preset of one's own, as a user would write one, for the simulated backend."""
    path = tmp_path_factory.mktemp("presets") / "simulated.toml"
    path.write_text(TEST_PRESET, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def start(weights: Path) -> Iterator[Callable[..., EndpointState]]:
    """Start endpoints that are stopped when the module ends; nothing of them may be left."""
    started: list[EndpointState] = []

    def up(preset: str, **options: Any) -> EndpointState:
        started.append(endpoint.up(preset, **options))
        return started[-1]

    yield up
    for each in started:
        endpoint.down(each.name)
        assert processes.processes(Path(each.run_dir)) == []
        assert not Path(each.run_dir).exists()


@pytest.fixture(scope="session")
def served(weights: Path) -> Iterator[EndpointState]:
    """The real model, for every test that only calls it."""
    state = endpoint.up("smollm2-135m-local", name="served", weights=weights)
    yield state
    endpoint.down(state.name)
    assert processes.processes(Path(state.run_dir)) == []


@pytest.fixture(scope="session")
def doubles(weights: Path, base_weights: Path, simulated_preset: str) -> Iterator[dict[str, EndpointState]]:
    """The endpoints with the simulated backend that several tests share, started side by side."""
    slow = {"INF2KIT_SIMULATED_STEP_SECONDS": "0.02"}
    choices: dict[str, tuple[dict[str, str], Path]] = {
        "victim": (slow, weights),
        "hurried": ({**slow, "INF2KIT_DEADLINE_SECONDS": "4"}, base_weights),
    }
    with ThreadPoolExecutor(len(choices)) as pool:
        starts = {
            name: pool.submit(endpoint.up, simulated_preset, name=name, variables=variables, weights=files)
            for name, (variables, files) in choices.items()
        }
    states = {name: start.result() for name, start in starts.items()}
    yield states
    for state in states.values():
        endpoint.down(state.name)
        assert processes.processes(Path(state.run_dir)) == []


@pytest.fixture(scope="session")
def victim(doubles: dict[str, EndpointState]) -> EndpointState:
    """The simulated backend, slow enough to be killed in the middle: 400 tokens take 8 s."""
    return doubles["victim"]


@pytest.fixture(scope="session")
def hurried(doubles: dict[str, EndpointState]) -> EndpointState:
    """The simulated backend as a base model: 8 rows, a queue of 4, 50 tokens a second, a deadline of 4 s."""
    return doubles["hurried"]


@pytest.fixture
def caller(served: EndpointState) -> EndpointCaller:
    """boto3 for the served endpoint."""
    return EndpointCaller(served)
