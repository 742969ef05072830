"""The faithful container as a launcher of the rehearsal, and the real model in one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.container import processes as container
from inf2kit.rehearsal.local import endpoint, state
from tests.helpers.containers import GATEWAY, Container, Deployable, find_listeners, pid_in_container
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.servers import ping, wait_until

_IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount-proc", "--pid", "--fork", "--kill-child"]


def test_a_local_endpoint_in_a_faithful_container(
    simulated_preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found, called and stopped like any other; what ends in it is not the container."""
    monkeypatch.setenv(container.LAUNCHER, "faithful")
    up = endpoint.up(simulated_preset, name="faithful")
    try:
        assert EndpointCaller(up).stream("x", max_new_tokens=3)[-1]["details"]["generated_tokens"] == 3
        processes = container.processes(Path(up.run_dir))
        (first,) = [process for process in processes if pid_in_container(process) == 1]
        assert list(find_listeners(first)) == [GATEWAY]
        assert ping(up.gateway_port) == 200
        (server,) = [process for process in processes if process.name() == "java"]
        server.kill()
        lost = wait_until(
            lambda: (now := endpoint.get("faithful")).status == "Failed" and now, 30, "it is lost"
        )
        assert "the model server has ended, and /ping has not answered" in lost.reason
        assert first.is_running(), "the container lives, as it does on AWS"
    finally:
        endpoint.down("faithful")
    assert container.processes(Path(up.run_dir)) == []
    assert state.read("faithful") is None


def test_a_launcher_that_is_not_there_is_named(
    home: Path, simulated_preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(container.LAUNCHER, "docker")
    with pytest.raises(LocalEndpointError, match="it is one of: everyday, faithful"):
        endpoint.up(simulated_preset, name="unlaunched")
    assert state.read("unlaunched") is None


def test_what_cannot_be_killed_does_not_keep_down_for_ever(tmp_path: Path) -> None:
    """Process 1 of a namespace, which ignores every signal that comes from within it."""
    looks = (
        "from pathlib import Path; from inf2kit.rehearsal.container import processes; "
        f"print([each.pid for each in processes.kill(Path({str(tmp_path)!r}), patience_s=1.0)])"
    )
    first = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {looks!r}], env={{}}, check=True)"
    output = subprocess.run(
        [*_IN_A_NAMESPACE, sys.executable, "-c", first],
        env={MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert output.stdout == "[1]\n", output.stderr


def test_a_real_model_runs_with_the_images_packages(
    run: Callable[..., Container], package: Callable[..., Deployable], small_weights: Path
) -> None:
    """The first layers of one: transformers and torch compute there, and both ways say the same."""
    served = run(package(small_weights))
    served.wait_until_ready()
    status, (answer,) = served.generate("My favorite place on earth is", max_new_tokens=8)
    assert status == 200
    events = served.stream("My favorite place on earth is", max_new_tokens=8)[1]
    assert answer["generated_text"] == events[-1]["generated_text"] != ""
