"""``inf2kit local``: names of endpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "{path}"])
def test_down_takes_names_and_never_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").touch()
    result = CliRunner().invoke(main, ["local", "down", name.format(path=tmp_path)])
    assert (result.exit_code, "cannot be an endpoint's name" in result.output) == (1, True)
    assert (tmp_path / "precious").exists()
