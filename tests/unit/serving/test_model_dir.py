"""The layout of a model directory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from inf2kit.serving.model_dir import compiled_files, digest_of, sha256_of, weight_files


def test_the_sha256_of_a_file_is_that_of_its_bytes_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x", b"x" * (2**20 + 1)):
        path.write_bytes(content)
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    assert sha256_of(path).startswith(digest_of(content))


def test_weights_are_one_file_or_those_of_the_index(tmp_path: Path) -> None:
    assert weight_files(tmp_path) == {"model.safetensors"}
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert weight_files(tmp_path) == {"model-1.safetensors", "model-2.safetensors"}


def test_a_compiled_model_has_a_shard_for_each_core() -> None:
    assert compiled_files(2) == [
        "model.pt",
        "checkpoint/weights/tp0_sharded_checkpoint.safetensors",
        "checkpoint/weights/tp1_sharded_checkpoint.safetensors",
    ]
