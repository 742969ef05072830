"""Which endpoint the client calls: a local one only while it runs, and AWS if AWS is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from inf2kit import Endpoint, paths
from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.rehearsal.runtime.bearer import LOCAL_TOKENS

NAME, RUN_DIR = "smollm2-135m-local", "/tmp/inf2kit-of-a-test"  # noqa: S108 - only a name


@pytest.fixture
def host() -> Iterator[Callable[[str], int]]:
    """Start a process with a mark in its environment, as an endpoint's host has, and return its pid."""
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


def write_state(pid: int, port: int = 20_001, **more: Any) -> None:
    folder = paths.endpoint(NAME)
    folder.mkdir(parents=True)
    endpoint = EndpointState(NAME, NAME, port, 20_002, RUN_DIR, pid)
    values = {key: value for key, value in vars(endpoint).items() if key not in ("status", "reason")}
    (folder / "state.json").write_text(json.dumps({**values, **more}), encoding="utf-8")


def test_a_living_local_endpoint_is_called(isolated: Path, host: Callable[[str], int]) -> None:
    write_state(host(RUN_DIR))
    assert repr(Endpoint(NAME)) == f"<Endpoint '{NAME}' at http://127.0.0.1:20001>"
    assert repr(Endpoint.from_preset(NAME)) == f"<Endpoint '{NAME}' at http://127.0.0.1:20001>"


def test_a_local_endpoints_tokens_are_never_of_the_users_own_credentials(
    isolated: Path, host: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    write_state(host(RUN_DIR))
    for endpoint in (Endpoint(NAME), Endpoint.from_preset(NAME)):
        arguments = endpoint.openai()
        assert arguments["base_url"] == f"http://127.0.0.1:20001/endpoints/{NAME}/openai/v1"
        assert LOCAL_TOKENS.refusal(f"Bearer {arguments['api_key']()}") == ""


@pytest.mark.parametrize("mark", ["", "/tmp/inf2kit-of-somebody-else"])  # noqa: S108
def test_a_state_whose_host_is_gone_never_wins_over_aws(
    isolated: Path, host: Callable[[str], int], mark: str
) -> None:
    """Even if another process has its process id by now, and another program its port."""
    write_state(host(mark) if mark else 0)
    assert repr(Endpoint(NAME)) == f"<Endpoint '{NAME}' on AWS in eu-west-1>"


@pytest.mark.parametrize("source", ["region", "session", "AWS_PROFILE", "AWS_ENDPOINT_URL"])
def test_a_local_endpoint_does_not_stand_in_where_aws_is_meant(
    isolated: Path, host: Callable[[str], int], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    write_state(host(RUN_DIR))
    arguments: dict[str, Any] = {}
    if source == "region":
        arguments = {"region_name": "us-west-2"}
    elif source == "session":
        arguments = {"session": boto3.session.Session("a", "b", region_name="us-west-2")}
    else:
        value = "https://aws.example" if source == "AWS_ENDPOINT_URL" else "mine"
        (isolated / "config").write_text("[profile mine]\nregion = us-west-2\n", encoding="utf-8")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(isolated / "config"))
        monkeypatch.setenv(source, value)
    assert "127.0.0.1" not in repr(Endpoint(NAME, **arguments))
    if source in ("region", "session"):
        assert repr(Endpoint(NAME, **arguments)) == f"<Endpoint '{NAME}' on AWS in us-west-2>"


def test_a_state_of_another_release_is_read(isolated: Path, host: Callable[[str], int]) -> None:
    write_state(host(RUN_DIR), something_new=True)
    state = LocalEndpoint(NAME).read_state()
    assert state
    assert state.runtime_port == 20_001
    assert "127.0.0.1:20001" in repr(Endpoint(NAME))
    (paths.endpoint(NAME) / "state.json").write_text('{"name": "half"}', encoding="utf-8")
    with pytest.raises(LocalEndpointError, match=r"state\.json lacks 'preset'; remove the endpoint with"):
        LocalEndpoint(NAME).read_state()
    assert "on AWS" in repr(Endpoint(NAME))


def test_the_region_is_the_one_that_cdk_takes(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert repr(Endpoint("e")) == "<Endpoint 'e' on AWS in ap-south-1>"
