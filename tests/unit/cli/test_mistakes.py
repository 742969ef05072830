"""Mistakes on the command line end with a sentence, never with a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["presets", "show", "lama2-7b-latency"], "did you mean 'llama2-7b-latency'"),
        (["local", "up", "nothing.toml"], "cannot be read"),
        (["local", "up", "smollm2-135m-local", "--name", "a_b"], "cannot be an endpoint's name"),
        (["local", "up", "smollm2-135m-local", "--name", "x" * 64], "cannot be an endpoint's name"),
        (["local", "up", "smollm2-135m-local", "--env", "X"], "--env takes NAME=VALUE"),
        (["local", "up", "smollm2-135m-local", "--wait", "-1"], "not in the range"),
        (["local", "logs", "nobody"], "there is no local endpoint 'nobody'"),
        (["local", "logs", "../x"], "cannot be an endpoint's name"),
        (["local", "down"], "give the name of an endpoint, or --all"),
        (["verify-device", "--report", "/none/report.json"], "choose another --report"),
        (["generate", "naïve", "x"], "cannot be an endpoint's name"),
        (
            ["generate", "e", "x", "--region", "eu-west-1", "--endpoint-url", "nonsense"],
            "correct endpoint_url",
        ),
        (["generate", "e", os.fsdecode(b"\xff")], "it is not UTF-8"),
        (["presets", "chekc"], "No such command 'chekc'"),
        (["generate", "nobody", "x", "--endpoint-url", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)
def test_every_mistake_ends_with_a_sentence(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit), "click ends the process; nothing escapes"


@pytest.mark.parametrize("command", ["local up smollm2-135m-local", "cloud up", "demo --quick"])
def test_a_home_that_cannot_be_one_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "file"))
    result = CliRunner().invoke(main, command.split())
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert f"inf2kit keeps its files in {tmp_path / 'file'}: set INF2KIT_HOME" in result.output


def test_down_of_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["local", "down", "--all"])
    assert (result.output, result.exit_code) == ("no local endpoints\n", 0)
    result = CliRunner().invoke(main, ["local", "down", "nobody"])
    assert (result.output, result.exit_code) == ("there is no local endpoint 'nobody'\n", 0)


@pytest.mark.parametrize(("answer", "status"), [("", 2), ("n\n", 0), ("y\n", 0)])
def test_prune_asks_and_says_what_to_do_where_nobody_answers(
    tmp_path: Path, answer: str, status: int
) -> None:
    digest = "0" * 32
    (tmp_path / digest).mkdir()
    (tmp_path / digest / "part").touch()
    result = CliRunner().invoke(
        main, ["packages", "prune", str(tmp_path), "--older-than", "0", "--keep", "0"], input=answer
    )
    assert result.exit_code == status, result.output
    assert ("there is nobody to ask; give --yes" in result.output) is (answer == "")
    assert (tmp_path / digest).exists() is (answer != "y\n")
