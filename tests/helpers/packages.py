"""Packages for tests: small directories of weights, compiled artefacts of the right shape, manifests."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import inf2kit
from inf2kit import catalog
from inf2kit.package import Contents, Manifest, PublishPlan, Store
from inf2kit.package import publish as publishing
from inf2kit.package.hashing import HashedFile
from inf2kit.package.manifest import Entry
from inf2kit.presets import Preset

#: Bytes of a 7B model in float16.
SIZE = 13_500_000_000
#: A user's own handler: inf2kit's hooks, and texts in upper case.
HANDLER = """
from inf2kit.serving import worker
from inf2kit.serving.worker import input_fn, model_fn, output_fn


def predict_fn(data, model, context=None):
    prediction = worker.predict_fn(data, model, context)
    if isinstance(prediction, list):
        for generation in prediction:
            generation["generated_text"] = generation["generated_text"].upper()
    return prediction
"""


def write_safetensors(path: Path, length: int = 64, fill: bytes = b"\1") -> None:
    """Write a file with one tensor."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        block = fill * 2**20
        while length > 0:
            file.write(block[:length])
            length -= len(block)


def write_handler(path: Path, source: str = HANDLER) -> Path:
    """Write a user's own handler."""
    path.write_text(source, encoding="utf-8")
    return path


def link_files(source: Path, target: Path, *without: str) -> Path:
    """Link the files of a folder into a new one, except those of some names or suffixes."""
    target.mkdir()
    for file in source.iterdir():
        if file.name not in without and file.suffix not in without:
            try:
                (target / file.name).hardlink_to(file.resolve())
            except OSError:  # another file system
                shutil.copyfile(file, target / file.name)
    return target


def write_weights(path: Path, *, shards: int = 2, length: int = 2 * 2**20) -> Path:
    """Write plain weights with a tokenizer; the shards differ in their content."""
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"vocab_size": 10}', encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    names = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    for shard, name in enumerate(names):
        write_safetensors(path / name, length, bytes([shard + 1]))
    index = {"weight_map": {f"layer.{shard}": name for shard, name in enumerate(names)}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return path


def write_artifacts(path: Path, preset: Preset, **changed: Any) -> Path:
    """Write files as optimum-neuron's export does, with placeholders for content."""
    path.mkdir(parents=True)
    shapes, versions = preset.shapes, catalog.image().versions
    config = {
        "batch_size": shapes.batch_size,
        "sequence_length": shapes.sequence_length,
        "max_context_length": shapes.prefill_length,
        "tp_degree": preset.compute.tensor_parallel_size,
        "torch_dtype": preset.compute.dtype,
        "optimum_neuron_version": versions["optimum_neuron"],
        "neuronxcc_version": f"{versions['neuronx_cc']}+abcdef",
        **changed,
    }
    (path / "neuron_config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "config.json").write_text("{}", encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (path / "model.pt").write_bytes(b"graph")
    for rank in range(preset.compute.tensor_parallel_size):
        write_safetensors(
            path / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors", fill=bytes([rank])
        )
    return path


def build_manifest(preset: Preset, *, size: int = SIZE, **changed: Any) -> Manifest:
    """Build the manifest of a package that need not exist."""
    values: dict[str, Any] = {
        "inf2kit": inf2kit.__version__,
        "preset": preset.to_manifest(),
        "revision": None,
        "target": "inf2",
        "image_tag": catalog.image().tag,
        "versions": dict(catalog.image().versions),
        "notice": None,
        "files": {"model.pt": Entry(size, "0" * 64)},
    }
    return Manifest(**{**values, **changed})


def publish(contents: Contents, store: Store) -> PublishPlan:
    """Plan and execute; what was planned."""
    plan = publishing.plan(contents, store)
    publishing.execute(plan)
    return plan


def with_changed_code(
    contents: Contents, folder: Path, name: str = "inference.py", old: str = "", new: str = "\n"
) -> Contents:
    """Return the package with a piece of one module replaced; without ``old``, ``new`` is appended."""
    text = contents.files[f"code/{name}"].read_text(encoding="utf-8")
    assert old in text
    path = folder / f"changed-{len(list(folder.iterdir()))}.py"
    path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")
    changed = HashedFile.from_path(path)
    files = {**contents.manifest.files, f"code/{name}": changed.entry}
    manifest = dataclasses.replace(contents.manifest, files=files)
    parts = {**contents.parts, f"code/{name}": changed.parts}
    return Contents(manifest, {**contents.files, f"code/{name}": path}, parts)


def with_simulated_backend(contents: Contents) -> Contents:
    """Return the package with the simulated backend instead of its model: it starts in seconds."""
    preset = dict(contents.manifest.preset)
    preset["compute"] = {**preset["compute"], "backend": "simulated"}
    manifest = dataclasses.replace(
        contents.manifest, preset=preset, notice="rehearsal: the simulated backend"
    )
    return dataclasses.replace(contents, manifest=manifest)
