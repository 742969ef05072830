"""Fixtures of the packaging tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import packages


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small source of a package: two shards and a tokenizer."""
    return packages.write_weights(tmp_path / "weights")
