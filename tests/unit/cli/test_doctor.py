"""The output of ``inf2kit doctor``: marks, colours, exit status, JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inf2kit import catalog
from inf2kit.cli.commands import main


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Node and cdk in no time."""
    for name, version in (("node", "24.0.0"), ("cdk", catalog.CDK_VERSION)):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def run(*options: str, color: bool = False) -> Result:
    return CliRunner().invoke(main, ["doctor", "--offline", *options], color=color)


def test_nothing_in_the_way() -> None:
    ended = run("smollm2-135m-local")
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert "[ok] extras: local, infra, cloud are installed" in lines
    assert lines[-1] == "next: start it: inf2kit local up smollm2-135m-local"


def test_a_problem_decides_the_exit_status_and_what_is_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "file" / "home"))
    ended = run("smollm2-135m-local")
    assert ended.exit_code == 1
    assert f"[x]  folder: {tmp_path}/file/home cannot be written\n" in ended.output
    assert "\n       run:  export INF2KIT_HOME=$HOME/inf2kit\n" in ended.output
    assert ended.output.splitlines()[-1] == (
        "next: run: export INF2KIT_HOME=$HOME/inf2kit   then again: inf2kit doctor smollm2-135m-local"
    )
    report = json.loads(run("smollm2-135m-local", "--json").stdout)
    assert report["worst"] == "problem"
    coloured = run("smollm2-135m-local", color=True).output
    assert "\x1b[31m[x]\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("smollm2-135m-local", color=True).output


def test_mistakes_are_sentences() -> None:
    assert "there is no preset 'llama'" in run("llama").output
    wrong = run("--region", "eu-west")
    assert (wrong.exit_code, "'eu-west' is not the name of a region" in wrong.output) == (1, True)


def test_a_terminal_sees_which_checks_run() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        command = [sys.executable, "-m", "inf2kit.cli", "doctor", "--offline", "smollm2-135m-local"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False)
        os.close(theirs)
        shown = terminal.read(65536).decode()
    assert re.match(r"\r\x1b\[K\S checking \w", shown)
    assert shown.endswith("\r\x1b[K"), "its line is erased"
    assert "checking" not in ended.stdout
