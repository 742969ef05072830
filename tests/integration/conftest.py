"""The preset and the files that tests of endpoints and of containers start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import packages

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


@pytest.fixture(scope="session")
def simulated_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A preset of one's own, as a user would write one, for the simulated backend."""
    path = tmp_path_factory.mktemp("presets") / "simulated.toml"
    path.write_text(TEST_PRESET, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def tokenizer_only(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's tokenizer with a very small Llama: enough for the simulated backend."""
    path = packages.link_files(
        weights, tmp_path_factory.mktemp("simulated") / "weights", ".safetensors", "config.json"
    )
    packages.write_small_model(path, vocabulary=49152)
    return path
