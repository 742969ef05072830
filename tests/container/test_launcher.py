"""The faithful container as a launcher of the rehearsal, and the real model in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from containers import GATE, Container, Deployable, listeners, number_inside
from support import Caller, ping

from inf2kit.errors import LocalEndpointError
from inf2kit.local import container, endpoint, state


def test_a_local_endpoint_in_a_faithful_container(
    home: Path, replay_preset: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """Found, called and stopped like any other."""
    monkeypatch.setenv(container.LAUNCHER, "faithful")
    up = endpoint.up(replay_preset, name="faithful")
    try:
        assert Caller(up).stream("x", max_new_tokens=3)[-1]["details"]["generated_tokens"] == 3
        processes = container.processes(Path(up.run_dir))
        (first,) = [process for process in processes if number_inside(process) == 1]
        assert list(listeners(first)) == [GATE]
        assert ping(up.gate_port) == 200
    finally:
        endpoint.down("faithful")
    assert container.processes(Path(up.run_dir)) == []
    assert state.read("faithful") is None


def test_a_launcher_that_is_not_there_is_named(
    home: Path, replay_preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(container.LAUNCHER, "docker")
    with pytest.raises(LocalEndpointError, match="it is one of: everyday, faithful"):
        endpoint.up(replay_preset, name="unlaunched")
    assert state.read("unlaunched") is None


def test_a_real_model_runs_with_the_images_packages(
    run: Callable[..., Container], package: Callable[..., Deployable], small_weights: Path
) -> None:
    """The first layers of one: transformers and torch compute there, and both ways say the same."""
    served = run(package(small_weights))
    served.ready()
    status, (answer,) = served.whole("My favorite place on earth is", max_new_tokens=8)
    assert status == 200
    events = served.stream("My favorite place on earth is", max_new_tokens=8)[1]
    assert answer["generated_text"] == events[-1]["generated_text"] != ""
