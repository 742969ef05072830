"""Which endpoint the client calls: one on this machine only where it is up, and AWS where AWS is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest

from inf2kit import Endpoint
from inf2kit import paths as homes
from inf2kit.client.local import MARK
from inf2kit.errors import EndpointError
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState

NAME, RUN_DIR = "smollm2-135m-local", "/tmp/inf2kit-of-a-test"  # noqa: S108 - only a name


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and an environment that says nothing of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    return tmp_path


@pytest.fixture
def host() -> Iterator[Callable[[str], int]]:
    """Start a process that carries a mark, as the host of an endpoint does; its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(mark: str) -> int:
        code = "import time; print(flush=True); time.sleep(60)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def left_behind(pid: int, port: int = 20_001, **more: Any) -> None:
    folder = homes.endpoint(NAME)
    folder.mkdir(parents=True)
    known = EndpointState(NAME, NAME, port, 20_002, RUN_DIR, pid)
    values = {key: value for key, value in vars(known).items() if key not in ("status", "reason")}
    (folder / "state.json").write_text(json.dumps({**values, **more}), encoding="utf-8")


def test_a_living_local_endpoint_is_called(alone: Path, host: Callable[[str], int]) -> None:
    left_behind(host(RUN_DIR))
    assert repr(Endpoint(NAME)) == f"<Endpoint '{NAME}' at http://127.0.0.1:20001>"
    assert repr(Endpoint.from_preset(NAME)) == f"<Endpoint '{NAME}' at http://127.0.0.1:20001>"


@pytest.mark.parametrize("mark", ["", "/tmp/inf2kit-of-somebody-else"])  # noqa: S108
def test_a_state_whose_host_is_gone_never_wins_over_aws(
    alone: Path, host: Callable[[str], int], mark: str
) -> None:
    """Also where another process has its number by now, and somebody else its port."""
    left_behind(host(mark) if mark else 0)
    assert repr(Endpoint(NAME)) == f"<Endpoint '{NAME}' on AWS in eu-west-1>"


@pytest.mark.parametrize("said", ["region", "session", "AWS_PROFILE", "AWS_ENDPOINT_URL"])
def test_a_local_endpoint_does_not_stand_in_where_aws_is_meant(
    alone: Path, host: Callable[[str], int], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    left_behind(host(RUN_DIR))
    arguments: dict[str, Any] = {}
    if said == "region":
        arguments = {"region_name": "us-west-2"}
    elif said == "session":
        arguments = {"session": boto3.session.Session("a", "b", region_name="us-west-2")}
    else:
        value = "https://aws.example" if said == "AWS_ENDPOINT_URL" else "mine"
        (alone / "config").write_text("[profile mine]\nregion = us-west-2\n", encoding="utf-8")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(alone / "config"))
        monkeypatch.setenv(said, value)
    assert "127.0.0.1" not in repr(Endpoint(NAME, **arguments))
    if said in ("region", "session"):
        assert repr(Endpoint(NAME, **arguments)) == f"<Endpoint '{NAME}' on AWS in us-west-2>"


def test_a_state_of_another_release_is_read(alone: Path, host: Callable[[str], int]) -> None:
    left_behind(host(RUN_DIR), something_new=True)
    known = LocalEndpoint(NAME).read_state()
    assert known
    assert known.runtime_port == 20_001
    assert "127.0.0.1:20001" in repr(Endpoint(NAME))
    (homes.endpoint(NAME) / "state.json").write_text('{"name": "half"}', encoding="utf-8")
    assert LocalEndpoint(NAME).read_state() is None
    assert "on AWS" in repr(Endpoint(NAME))


def test_the_region_is_the_one_that_cdk_takes(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert repr(Endpoint("e")) == "<Endpoint 'e' on AWS in ap-south-1>"


class Full(BaseHTTPRequestHandler):
    """Answers as SageMaker does when the container is full."""

    def do_POST(self) -> None:
        own = {"error": "the queue is full", "error_type": "overloaded", "retry_after_s": 7}
        body = {"Message": "m", "OriginalStatusCode": 429, "OriginalMessage": json.dumps(own)}
        content = json.dumps(body).encode()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(424)
        self.send_header("x-amzn-errortype", "ModelError")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Nothing is logged."""


def test_an_error_says_when_another_try_makes_sense(alone: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Full)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(EndpointError, match="the queue is full") as refused:
            Endpoint("e", endpoint_url=f"http://127.0.0.1:{server.server_port}").generate("x")
    finally:
        server.shutdown()
        server.server_close()
    error = refused.value
    assert (error.status, error.code, error.retry_after_s) == (429, "overloaded", 7)
