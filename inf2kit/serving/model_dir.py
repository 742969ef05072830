"""What packaging and the engine must agree on, so that the one finds what the other has written.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

#: The manifest's name in a package.
MANIFEST = "inf2kit.json"
#: Raised when the manifest changes in a way that older readers would misread.
FORMAT = 1
#: What optimum-neuron leaves of a compilation: what it was compiled for.
NEURON_CONFIG = "neuron_config.json"
#: The variable of a container that names the package which was deployed.
PACKAGE_DIGEST = "INF2KIT_PACKAGE_DIGEST"
#: What optimum-neuron calls the compiled graphs, in TorchScript.
COMPILED_GRAPHS = "model.pt"
_DIGEST_LENGTH = 32
_BLOCK = 2**20


def digest_of(manifest: bytes) -> str:
    """A package's digest: the first 32 hexadecimal digits of its manifest's sha256."""
    return hashlib.sha256(manifest).hexdigest()[:_DIGEST_LENGTH]


def sha256_of(path: Path) -> str:
    """Hexadecimal digits of a file's sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def compiled_files(tensor_parallel_size: int) -> list[str]:
    """A compiled model as optimum-neuron 0.4 lays it out: its graphs, and a shard for each core."""
    shards = range(tensor_parallel_size)
    return [
        COMPILED_GRAPHS,
        *(f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in shards),
    ]
