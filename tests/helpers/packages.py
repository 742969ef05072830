"""Packages for tests: small directories of weights, compiled artefacts of the right shape, manifests."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import inf2kit
from inf2kit import catalog
from inf2kit.package import Contents, Manifest, PublishPlan, Store, collect
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


#: The configuration of a Llama so small that its weights are a few numbers.
SMALL_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4,
    "intermediate_size": 8,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "transformers_version": "4.55.4",
    "vocab_size": 10,
}
#: The tensors of such a Llama, by name.
SMALL_TENSORS: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (10, 4),
    "model.norm.weight": (4,),
    "model.layers.0.input_layernorm.weight": (4,),
    "model.layers.0.post_attention_layernorm.weight": (4,),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (4, 4) for name in "qkvo"},
    "model.layers.0.mlp.gate_proj.weight": (8, 4),
    "model.layers.0.mlp.up_proj.weight": (8, 4),
    "model.layers.0.mlp.down_proj.weight": (4, 8),
}
#: A tokenizer with as many tokens.
SMALL_TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {
        "type": "WordLevel",
        "vocab": {f"word{number}": number for number in range(10)},
        "unk_token": "word0",
    },
}


def write_safetensors(
    path: Path,
    length: int = 64,
    fill: bytes = b"\1",
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    dtype: str = "F16",
) -> None:
    """Write a file with tensors of two bytes a number, all zero, and one that the model does not have.

    Args:
        path: The file.
        length: Bytes of the tensor that the model does not have.
        fill: Their content.
        tensors: The shapes of the others by name.
        dtype: Their type, as safetensors names it.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, shape in (tensors or {}).items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header["a"] = {"dtype": "U8", "shape": [length], "data_offsets": [end, end + length]}
    encoded = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded + bytes(end))
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
    """Write a very small Llama with a tokenizer; the shards have so many bytes more, and differ in them."""
    path.mkdir(parents=True)
    write_json(path / "config.json", SMALL_CONFIG)
    write_json(path / "tokenizer.json", SMALL_TOKENIZER)
    names = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    for shard, name in enumerate(names):
        write_safetensors(path / name, length, bytes([shard + 1]), {} if shard else SMALL_TENSORS)
    weight_map = {f"layer.{shard}": name for shard, name in enumerate(names)}
    weight_map |= dict.fromkeys(SMALL_TENSORS, names[0])
    write_json(path / "model.safetensors.index.json", {"weight_map": weight_map})
    return path


def write_small_model(path: Path, *, vocabulary: int = 10, **changed: Any) -> Path:
    """Write the configuration and weights of a very small Llama, without a tokenizer, in one file."""
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "config.json", {**SMALL_CONFIG, "vocab_size": vocabulary, **changed})
    tensors = {**SMALL_TENSORS, "model.embed_tokens.weight": (vocabulary, 4)}
    write_safetensors(path / "model.safetensors", tensors=tensors)
    return path


def write_json(path: Path, values: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(values), encoding="utf-8")


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
    write_json(path / "neuron_config.json", config)
    write_json(path / "config.json", SMALL_CONFIG)
    write_json(path / "tokenizer.json", SMALL_TOKENIZER)
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


def publish_small(preset: Preset, weights: Path, store: Store) -> str:
    """Publish a package of few files, for what is done with packages, and return its URI."""
    return publish(without_vendored_code(collect(preset, weights)), store).uri


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


def without_vendored_code(contents: Contents) -> Contents:
    """Return the package without other people's modules, of which it has hundreds: it cannot be served."""
    files = {name: path for name, path in contents.files.items() if not name.startswith("code/vendor/")}
    entries = {name: entry for name, entry in contents.manifest.files.items() if name in files}
    parts = {name: part for name, part in contents.parts.items() if name in files}
    return Contents(dataclasses.replace(contents.manifest, files=entries), files, parts)


def with_simulated_backend(contents: Contents) -> Contents:
    """Return the package with the simulated backend instead of its model: it starts in seconds."""
    preset = dict(contents.manifest.preset)
    preset["compute"] = {**preset["compute"], "backend": "simulated"}
    manifest = dataclasses.replace(
        contents.manifest, preset=preset, notice="rehearsal: the simulated backend"
    )
    return dataclasses.replace(contents, manifest=manifest)
