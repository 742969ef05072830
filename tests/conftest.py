"""What all tests share: groups for workers, figures in the summary, a home, the embedded model."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from inf2kit.rehearsal import model
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from tests.helpers import bytecode, packages

#: Session fixtures that take long to set up. The files that use one are a group, which one worker runs.
_SHARED = ("served", "doubles", "eager")
#: Groups that take long, the longest first: a worker takes the next group when it has finished one.
_LONGEST = (
    "tests/integration/cloud/test_the_whole_path.py",
    "tests/integration/cloud/test_every_option.py",
    "doubles",
    "served",
    "tests/contract/neuron/test_contract.py",
    "tests/integration/cloud/test_notebooks.py",
    "tests/integration/cloud/test_documents.py",
    "tests/integration/clients/test_clients.py",
    "tests/contract/neuron/test_compile.py",
    "tests/integration/cloud/test_planned_scaling.py",
    "tests/integration/endpoint/test_data_parallel.py",
    "tests/integration/cloud/test_endpoints.py",
    "tests/contract/neuron/test_verify_device.py",
    "tests/integration/endpoint/test_watchdog.py",
    "tests/integration/container/test_faithful_container.py",
    "tests/integration/aws/test_safe_packages.py",
    "tests/integration/cloud/test_cdk.py",
    "eager",
    "tests/integration/container/test_launchers.py",
    "tests/integration/endpoint/test_readiness.py",
    "tests/integration/aws/test_s3_packages.py",
    "tests/contract/neuron/test_families.py",
    "tests/contract/neuron/test_compile_from_hub.py",
    "tests/integration/hub/test_downloads.py",
    "tests/integration/endpoint/test_draining.py",
    "tests/integration/cloud/test_refused_requests.py",
    "tests/integration/cloud/test_sagemaker_sdk.py",
    "tests/integration/cloud/test_doctor.py",
    "tests/integration/cloud/test_openai_tokens.py",
    "tests/integration/endpoint/test_bench_tables.py",
    "tests/integration/cdk/test_cdk_command.py",
    "tests/unit/serving/gateway/test_gateway.py",
    "tests/unit/serving/engine/test_scheduler_churn.py",
)
_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    """Put Node and cdk, which lie beside Python, on PATH, and give each worker a core of its own.

    torch's threads wait for each other: a second process on their cores makes them many times slower.
    """
    # All that the collection imports stays, and would be searched for garbage again and again; see below.
    gc.disable()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Many processes import the same modules: each would compile them anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # The CDK's own rules take two thirds of a synth; test_reviews.py asks for them, and the tests of the cdk
    # command have an environment of their own, a user's, with them.
    os.environ["CDK_VALIDATION"] = "false"
    # A shell in the background, or nohup, has them ignored, and every process that a test starts would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # How long an example takes says something about the machine.
    hypothesis.settings.register_profile("tests", deadline=None)
    hypothesis.settings.load_profile("tests")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group files by the fixtures that they share, for ``--dist loadgroup``, the longest groups first."""
    fixtures: dict[str, set[str]] = defaultdict(set)
    for item in items:
        fixtures[_file(item)] |= set(getattr(item, "fixturenames", ()))
    groups = {
        file: next((name for name in _SHARED if name in names), file) for file, names in fixtures.items()
    }
    for item in items:
        # Unit tests share nothing that takes long, so each goes to the next worker that is free.
        if not _file(item).startswith("tests/unit/") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(groups[_file(item)]))
    order = {group: place for place, group in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(groups[_file(item)], len(order)))


def pytest_collection_finish() -> None:
    """Look for garbage from now on, but not among what was imported."""
    gc.freeze()
    gc.enable()


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


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
    """Take over the figures of a worker that has ended."""
    figures = getattr(node, "workeroutput", {}).get("figures", [])
    node.config.stash.setdefault(_FIGURES, []).extend(figures)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of this run."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The embedded model, from the user's cache."""
    return model.prepare()


@pytest.fixture(scope="session")
def small_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's first four layers: a real Llama that loads in no time, and talks nonsense."""
    # Imported late: torch counts its threads at its import, which must come after a worker has its core.
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("small") / "weights"
    path = packages.link_files(weights, folder, ".safetensors", "config.json")
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}), encoding="utf-8")
    (file,) = weights.glob("*.safetensors")
    layer = re.compile(r"model\.layers\.(\d+)\.")
    with safe_open(file, "pt") as tensors:
        matches = {name: layer.match(name) for name in set(tensors.keys())}
        names = [name for name, match in matches.items() if not match or int(match[1]) < 4]
        first_layers = {name: tensors.get_tensor(name) for name in names}
    save_file(first_layers, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, so that the user's endpoints are not touched."""
    prepared = model.prepare()
    path = tmp_path_factory.mktemp("home")
    (path / "models").symlink_to(prepared.parent)
    # Two caches outlive this home: what endpoints compile, of which torch and transformers take 10 s, and the
    # CDK's library, which jsii unpacks.
    for cache in ("bytecode", ".cache/aws/jsii"):
        shared = Path(sys.prefix) / cache
        shared.mkdir(parents=True, exist_ok=True)
        (path / cache).parent.mkdir(parents=True, exist_ok=True)
        (path / cache).symlink_to(shared)
    bytecode.seed(path / "bytecode")
    before = os.environ.get("INF2KIT_HOME")
    os.environ["INF2KIT_HOME"] = str(path)
    yield path
    for folder in sorted((path / "endpoints").glob("*")):  # of tests that failed
        LocalEndpoint(folder.name).stop()
    os.environ.pop("INF2KIT_HOME")
    if before is not None:
        os.environ["INF2KIT_HOME"] = before


@pytest.fixture
def empty_home(home: Path, tmp_path: Path) -> Path:
    """A home without endpoints, beside that of the session, whose endpoints other tests have started."""
    path = tmp_path / "home0"
    path.mkdir()
    for name in ("models", "bytecode"):
        (path / name).symlink_to((home / name).resolve())
    return path
