"""``inf2kit local``: names of endpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main
from inf2kit.rehearsal.local.state import EndpointState


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "{path}"])
def test_down_takes_names_and_never_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").touch()
    result = CliRunner().invoke(main, ["local", "down", name.format(path=tmp_path)])
    assert (result.exit_code, "cannot be an endpoint's name" in result.output) == (1, True)
    assert (tmp_path / "precious").exists()


def test_an_endpoint_may_be_named_by_its_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset's name has a '.', which no endpoint's has."""
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    preset, name = "llama3.1-8b-fleet", "llama3-1-8b-fleet"
    folder = tmp_path / "home" / "endpoints" / name
    folder.mkdir(parents=True)
    EndpointState(name, preset, 20_001, 20_002, str(tmp_path / "run")).write(folder)
    (folder / "endpoint.log").write_text("a line\n", encoding="utf-8")
    logs = CliRunner().invoke(main, ["local", "logs", preset])
    assert (logs.output, logs.exit_code) == ("a line\n", 0)
    down = CliRunner().invoke(main, ["local", "down", preset])
    assert (down.output, down.exit_code) == (f"{name} is stopped\n", 0)
    assert not folder.exists()


@pytest.mark.parametrize("command", ["generate {} Hello", "bench load {} --seconds 1"])
def test_a_call_may_name_the_preset_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*command.format("llama3.1-8b-fleet").split(), "--endpoint-url", "http://127.0.0.1:9"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "endpoint 'llama3-1-8b-fleet' cannot be reached" in result.output
