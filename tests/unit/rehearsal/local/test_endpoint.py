"""A local endpoint before anything of it runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.local.endpoint import LocalEndpoint


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalEndpoint:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    endpoint = LocalEndpoint("mine")
    endpoint.folder.mkdir(parents=True)
    return endpoint


def test_a_folder_that_is_too_long_for_sockets_is_a_sentence(
    endpoint: LocalEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(LocalEndpointError, match="too long for the sockets of an endpoint; set TMPDIR"):
        endpoint.create("smollm2-135m-local", {})
    assert endpoint.read_state() is None


def test_the_ports_of_other_endpoints_are_left_alone(endpoint: LocalEndpoint) -> None:
    endpoint.create("smollm2-135m-local", {})
    first = endpoint.describe()
    (endpoint.folder.parent / "damaged").mkdir()
    (endpoint.folder.parent / "damaged" / "state.json").write_text("{", encoding="utf-8")
    other = LocalEndpoint("other")
    other.folder.mkdir()
    other.create("smollm2-135m-local", {})
    second = other.describe()
    assert not {first.runtime_port, first.gateway_port} & {second.runtime_port, second.gateway_port}
    assert (endpoint.stop(), other.stop()) == (True, True)
    assert not Path(first.run_dir).exists()
