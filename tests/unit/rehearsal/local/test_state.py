"""State files that are damaged or of another release: one never stands in the way of the other endpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from inf2kit import paths
from inf2kit.cli.commands import main
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState

GOOD = {
    "name": "x",
    "preset": "p",
    "runtime_port": 1,
    "gateway_port": 2,
    "run_dir": "/none/run",
    "host_pid": 0,
}
#: The content of a state file, and what is said of it.
DAMAGED = {
    "empty": (b"", "Expecting value"),
    "truncated": (json.dumps(GOOD).encode()[:40], "Unterminated string"),
    "binary": (b"\xff\xfe\x00", "codec can't decode"),
    "a list": (b"[]", "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
    "a field is missing": (b'{"name": "x"}', "lacks 'preset'"),
    "a text for a number": (
        json.dumps({**GOOD, "host_pid": "12"}).encode(),
        "'host_pid' is '12', and not int",
    ),
    "a number for a text": (json.dumps({**GOOD, "run_dir": 5}).encode(), "'run_dir' is 5, and not str"),
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))


def write(name: str, content: bytes, status: bytes | None = None) -> Path:
    folder = paths.endpoints() / name
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(content)
    if status is not None:
        (folder / "status.json").write_bytes(status)
    return folder


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.mark.parametrize(("content", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_state_is_said_and_the_others_are_served(content: bytes, sentence: str) -> None:
    write("damaged", content)
    write("good", json.dumps(GOOD).encode())
    with pytest.raises(LocalEndpointError) as raised:
        LocalEndpoint("damaged").describe()
    assert sentence in str(raised.value)
    assert "remove the endpoint with 'inf2kit local down damaged'" in str(raised.value)
    table = run("local", "status").output
    assert "Unreadable" in table
    assert sentence in table
    assert "http://127.0.0.1:1" in table
    assert sentence in run("local", "logs", "damaged").output
    assert sentence in run("local", "up", "smollm2-135m-local", "--name", "damaged").output
    assert run("local", "down", "damaged").output == "damaged is stopped\n"
    assert not paths.endpoint("damaged").exists()
    assert run("local", "down", "--all").output == "good is stopped\n"


@pytest.mark.parametrize("status", [b"", b"[]", b'"InService"', b'{"status": 7}', b"\xff"])
def test_a_damaged_status_is_one_that_is_not_written_yet(status: bytes) -> None:
    folder = write("x", json.dumps(GOOD).encode(), status)
    state = EndpointState.read(folder)
    assert state
    assert (state.status, state.reason) == ("Creating", "")


def test_fields_of_another_release_are_passed_over() -> None:
    folder = write("x", json.dumps({**GOOD, "colour": "blue"}).encode(), b'{"status": "InService", "n": 1}')
    state = EndpointState.read(folder)
    assert state
    assert (state.runtime_port, state.status) == (1, "InService")


def test_other_folders_beside_the_endpoints_are_left_alone() -> None:
    write("good", json.dumps(GOOD).encode())
    for name in (".Trash", "a_b", "a b", "x" * 64):
        (paths.endpoints() / name).mkdir()
    (paths.endpoints() / "file").touch()
    assert [endpoint.name for endpoint in LocalEndpoint.list_all()] == ["good"]
    assert run("local", "status").exit_code == 0
    assert run("local", "down", "--all").output == "good is stopped\n"
    assert (paths.endpoints() / "a_b").exists()


@pytest.fixture
def host() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start a process that looks like an endpoint's host: its command line, its mark and its home."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, run_dir: str) -> subprocess.Popen[bytes]:
        code = "print(flush=True); import time; time.sleep(60)"
        variables = {MARK: run_dir, "INF2KIT_HOME": str(paths.home())}
        words = [sys.executable, "-c", code, "inf2kit.rehearsal.local.host", name]
        started.append(subprocess.Popen(words, env=variables, stdout=subprocess.PIPE))
        assert started[-1].stdout
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_down_ends_the_host_of_a_state_that_cannot_be_read(
    tmp_path: Path, host: Callable[[str, str], subprocess.Popen[bytes]]
) -> None:
    write("damaged", b"{")
    mine, other = host("damaged", str(tmp_path / "run")), host("another", str(tmp_path / "run2"))
    (tmp_path / "run").mkdir()
    assert run("local", "down", "damaged").output == "damaged is stopped\n"
    assert not psutil.pid_exists(mine.pid)
    assert not (tmp_path / "run").exists()
    assert other.poll() is None
