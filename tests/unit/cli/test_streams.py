"""Standard streams that end early, are full, closed or of a small encoding; and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.servers import PATIENCE_S

INF2KIT = str(Path(sys.executable).with_name("inf2kit"))
#: Every kind of output: a table, a document, a log, help, an error.
PRINTING = [
    ["presets"],
    ["presets", "show", "llama2-7b-budget"],
    ["presets", "check", "llama2-7b-budget"],
    ["prices"],
    ["verify-device", "--questions"],
    ["local", "logs", "talkative"],
    ["local", "status"],
    ["--help"],
    ["local", "--help"],
    ["--version"],
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an endpoint whose log is longer than a pipe, with letters that ASCII lacks."""
    folder = tmp_path / "home" / "endpoints" / "talkative"
    folder.mkdir(parents=True)
    EndpointState("talkative", "smollm2-135m-local", 20_001, 20_002, str(tmp_path / "run")).write(folder)
    (folder / "endpoint.log").write_text("naïve → Ω\n" * 20_000, encoding="utf-8")
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(
    *arguments: str, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INF2KIT, *arguments],
        env={**os.environ, **(env or {})},
        check=False,
        text=True,
        timeout=PATIENCE_S,
        **options,
    )


@pytest.fixture
def broken_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_ends_early_is_no_error(
    home: Path, broken_pipe: int, arguments: list[str], unbuffered: str
) -> None:
    result = run(*arguments, stdout=broken_pipe, stderr=subprocess.PIPE, env={"PYTHONUNBUFFERED": unbuffered})
    os.close(broken_pipe)
    assert (result.stderr, result.returncode) == ("", 141)


def test_an_error_without_a_reader_is_none_either(home: Path, broken_pipe: int) -> None:
    result = run("presets", "show", "nothing", stdout=subprocess.PIPE, stderr=broken_pipe)
    os.close(broken_pipe)
    assert (result.stdout, result.returncode) == ("", 141)


def test_a_file_that_is_a_broken_pipe_is_an_error(home: Path, tmp_path: Path) -> None:
    """Only the standard streams end a command in silence."""
    program = (
        "from inf2kit.cli.commands import main\n"
        "import click, os\n"
        "@main.command('fail')\n"
        "def fail(): raise BrokenPipeError(32, os.strerror(32))\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "fail"], capture_output=True, text=True, check=False
    )
    assert (result.stderr, result.returncode) == ("Error: a call of the system: Broken pipe\n", 1)


@pytest.mark.parametrize("arguments", [["presets"], ["local", "logs", "talkative"], ["--help"]], ids=" ".join)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(home: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = run(*arguments, stdout=full, stderr=subprocess.PIPE)
        assert result.stderr == "Error: standard output: No space left on device\n"
        assert result.returncode == 1
        assert run(*arguments, stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams(home: Path, closed: int) -> None:
    result = run(
        "presets",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: os.close(closed),
    )
    if closed == 1:
        assert (result.stderr, result.returncode) == ("Error: standard output: Bad file descriptor\n", 1)
    else:
        assert (result.stderr, result.returncode) == ("", 0)
        assert "llama2-7b-budget" in result.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_an_encoding_that_lacks_a_letter_prints_an_escape(home: Path, variables: dict[str, str]) -> None:
    result = run("local", "logs", "talkative", env=variables, capture_output=True)
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.splitlines()[0] in ("naïve → Ω", r"na\xefve \u2192 \u03a9")
    wrong = run("presets", "show", "naïve", env=variables, capture_output=True)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (1, False)
    assert wrong.stderr.startswith("Error: there is no preset")


def follow(home: Path) -> subprocess.Popen[str]:
    """A command that runs until it is stopped, in the middle."""
    command = subprocess.Popen(
        [INF2KIT, "local", "logs", "-f", "talkative"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout
    for _ in range(20_000):
        command.stdout.readline()
    return command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_without_a_traceback(home: Path, number: signal.Signals) -> None:
    command = follow(home)
    command.send_signal(number)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert (errors.strip(), command.returncode) == ("", 128 + number)


def test_a_followed_log_ends_with_its_endpoint_and_with_its_reader(home: Path) -> None:
    command = follow(home)
    assert command.stdout
    command.stdout.close()
    assert command.wait(PATIENCE_S) == 141
    command = follow(home)
    (home / "endpoints" / "talkative" / "endpoint.log").unlink()
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert (errors, command.returncode) == ("the endpoint 'talkative' was stopped\n", 0)
