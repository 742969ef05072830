"""``inf2kit compile`` of a model on the hub, with the container's optimum-neuron and the real hub client."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from inf2kit.package import Manifest
from tests.contract.neuron.test_compile import PRESET, VERSION
from tests.helpers import tiny_llama
from tests.helpers.hub_double import Account, HubDouble, hold
from tests.helpers.neuron import ROOT, find_python, run_module
from tests.helpers.servers import PATIENCE_S

MODEL = "org/small"
CACHE = "aws-neuron/optimum-neuron-cache"
TOKEN = "hf_" + "mine" * 6
#: A cache entry of optimum-neuron's own for the model, with the shapes in ``SHAPES``.
ENTRY = """
import sys, json
from optimum.neuron.cache.entries.single_model import SingleModelCacheEntry
entry = SingleModelCacheEntry.from_hub(sys.argv[1], "text-generation")
entry._neuron_config = json.loads(sys.argv[2])
print(entry.serialize())
"""
DESCRIBE = """
import sys, json, types
from inf2kit.compile import graph_cache
from inf2kit.compile.spec import CompileSpec
from inf2kit.serving.shapes import StaticShapes
spec = CompileSpec(sys.argv[1], None, StaticShapes.resolve(2, 48, 32), 1, "float32")
shapes = json.loads(sys.argv[2])
for changes in ({}, {"batch_size": 3}):
    settings = types.SimpleNamespace(**{**shapes, **changes})
    print("SAYS", graph_cache.describe(spec, settings, float(sys.argv[3])), flush=True)
settings = types.SimpleNamespace(**shapes)
print("SAYS", graph_cache.describe(spec, settings, float(sys.argv[3]), is_corrected=True), flush=True)
from huggingface_hub import constants
print("SAYS", "offline" if constants.HF_HUB_OFFLINE else "online")
"""
SHAPES = {
    "batch_size": 2,
    "sequence_length": 48,
    "max_context_length": 32,
    "tp_degree": 1,
    "on_device_sampling": False,
    "target": "trn1",
    "torch_dtype": "float32",
}


@pytest.fixture(scope="module")
def llama(weights: Path) -> Mapping[str, bytes]:
    return tiny_llama.build(weights)


@pytest.fixture
def hub(llama: Mapping[str, bytes]) -> Iterator[HubDouble]:
    with HubDouble().serving() as hub:
        hub.accounts[TOKEN] = Account("me")
        hub.add(MODEL, {**llama, "original/consolidated.00.pth": b"x"}, gated=True, readers={"me"})
        yield hub


def _variables(hub: HubDouble, tmp_path: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN,
        "INF2KIT_HOME": str(tmp_path / "home"),
    }


def _run(hub: HubDouble, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(VERSION, *arguments, **_variables(hub, tmp_path))


def _arguments(tmp_path: Path, *options: str) -> list[str]:
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET, encoding="utf-8")
    shapes = ["--max-context-length", "32"]
    return ["inf2kit.cli", "compile", str(preset), "--output", str(tmp_path / "out"), *shapes, *options]


def test_a_model_of_the_hub_is_compiled_packaged_and_pushed(hub: HubDouble, tmp_path: Path) -> None:
    commit = hub.repositories[MODEL].refs["main"]
    options = ["--model", f"{hub.url}/{MODEL}/tree/main", "--push-to-hub", "me/graphs"]
    ended = _run(hub, tmp_path, *_arguments(tmp_path, *options))
    assert ended.returncode == 0, ended.stdout
    assert "fetching org/small: 7 files" in ended.stdout
    assert "the hub's cache cannot be asked" in ended.stdout, "this hub has none"
    (path,) = (tmp_path / "out").glob("*/inf2kit.json")
    manifest = Manifest.parse(path.read_bytes(), str(path))
    assert manifest.revision == commit
    assert manifest.preset["model"]["id"] == MODEL
    graphs = hub.repositories["me/graphs"]
    files = graphs.commits[graphs.refs["main"]]
    assert graphs.private
    assert "model.pt" in files
    assert not [name for name in files if name.startswith("checkpoint/")]
    config = json.loads(files["neuron_config.json"])
    assert (config["checkpoint_id"], config["checkpoint_revision"]) == (MODEL, commit)
    assert not [call for call in hub.calls if "original" in call.path]
    assert TOKEN not in ended.stdout
    for written in tmp_path.rglob("*"):
        assert not written.is_file() or TOKEN.encode() not in written.read_bytes(), written
    again = _run(hub, tmp_path, *_arguments(tmp_path, "--model", MODEL, "--revision", commit))
    assert "compiled before, in" in again.stdout


def test_a_model_that_needs_more_room_is_refused_before_its_weights_come(
    hub: HubDouble, llama: Mapping[str, bytes], tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 500, "hidden_size": 2**17, "head_dim": 2**15, "intermediate_size": 2**19}
    config = {**json.loads(llama["config.json"]), **sizes}
    hub.add("org/huge", {**llama, "config.json": json.dumps(config).encode()})
    ended = _run(hub, tmp_path, *_arguments(tmp_path, "--model", "org/huge"))
    assert ended.returncode == 1
    assert "GB free and compiling writes" in ended.stdout.splitlines()[-1]
    assert not [call for call in hub.calls if call.path.startswith("/cdn/")]


def test_the_hubs_cache_of_graphs_is_looked_up_and_may_fail(hub: HubDouble, tmp_path: Path) -> None:
    entry = _run_code(hub, tmp_path, ENTRY, MODEL, json.dumps(SHAPES)).encode()
    hub.add(CACHE, {f"neuronxcc-2.21/0_REGISTRY/{VERSION}/llama/{MODEL}/entry.json": entry})
    lines = _describe(hub, tmp_path, timeout_s=PATIENCE_S)
    assert lines == [
        "the hub's cache has these graphs: some minutes",
        "the hub's cache has 1 compilations of this model, none with these shapes: up to an hour and more "
        "for a large model",
        "the hub's cache has these graphs, but without a correction of the logits: up to an hour and more "
        "for a large model",
        "online",
    ]
    hub.faults.append(hold("/api/"))
    lines = _describe(hub, tmp_path, timeout_s=1)
    assert lines[0].startswith("the hub's cache cannot be asked (no answer within 1 s); compiling may take")
    assert lines[-1] == "offline", "optimum-neuron does not wait for it either"


def _describe(hub: HubDouble, tmp_path: Path, *, timeout_s: int) -> list[str]:
    output = _run_code(hub, tmp_path, DESCRIBE, MODEL, json.dumps(SHAPES), str(timeout_s))
    return [line.removeprefix("SAYS ") for line in output.splitlines() if line.startswith("SAYS ")]


def _run_code(hub: HubDouble, tmp_path: Path, code: str, *arguments: str) -> str:
    ended = subprocess.run(
        [find_python(VERSION), "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **_variables(hub, tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return ended.stdout
