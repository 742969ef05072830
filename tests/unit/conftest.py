"""Fixtures of several unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.package import collect
from tests.helpers import packages


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A model directory as the container has it, with small files for weights."""
    weights = packages.write_weights(tmp_path / "weights")
    collect(inf2kit.load_preset("smollm2-135m-local"), weights).materialise(tmp_path / "model")
    return tmp_path / "model"
