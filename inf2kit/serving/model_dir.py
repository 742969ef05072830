"""The layout of a model directory, which is what a model package unpacks to in ``/opt/ml/model``.

Packaging writes it, and the engine and the compiler read it: file names and digests are defined here only.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

#: The manifest of a package: its preset, its versions and the sha256 of every other file.
MANIFEST = "inf2kit.json"
#: Raised when the manifest changes in a way that older readers would misread.
FORMAT = 1
#: The environment variable of a container that names the digest of the deployed package.
PACKAGE_DIGEST = "INF2KIT_PACKAGE_DIGEST"

#: The handler and ``inf2kit`` itself, and the vendored packages, which come last on Python's path.
CODE_FOLDER = "code"
HANDLER = f"{CODE_FOLDER}/inference.py"
VENDOR_FOLDER = f"{CODE_FOLDER}/vendor"

#: Files of a checkpoint as transformers' ``save_pretrained`` names them. The index lists the shards, where
#: the weights are more than one file.
MODEL_CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"
#: A fast tokenizer's only file. A slow one has a SentencePiece model instead.
TOKENIZER = "tokenizer.json"
SENTENCEPIECE_TOKENIZER = "tokenizer.model"

#: Files of a compiled model as optimum-neuron 0.4 names them: the configuration of the compilation, and the
#: graphs in TorchScript.
NEURON_CONFIG = "neuron_config.json"
COMPILED_GRAPHS = "model.pt"

_DIGEST_LENGTH = 32
_BLOCK = 2**20


def digest_of(manifest: bytes) -> str:
    """Return a package's digest: the first 32 hexadecimal digits of its manifest's sha256."""
    return hashlib.sha256(manifest).hexdigest()[:_DIGEST_LENGTH]


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, which is read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def weight_files(model_dir: Path) -> set[str]:
    """Return the names of a checkpoint's weight files, whether they exist or not.

    Raises:
        OSError, ValueError, KeyError: the index cannot be read.
    """
    index = model_dir / WEIGHTS_INDEX
    if not index.exists():
        return {WEIGHTS}
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def compiled_files(tensor_parallel_size: int) -> list[str]:
    """Return the files of a compiled model: its graphs, then the shard of each core."""
    shards = range(tensor_parallel_size)
    return [
        COMPILED_GRAPHS,
        *(f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in shards),
    ]
