"""The launchers: the faithful one for a local endpoint and a real model, and errors of both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inf2kit.client.local import MARK
from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.container import processes as container
from inf2kit.rehearsal.container.launchers import LAUNCHER_VARIABLE
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from tests.helpers.containers import GATEWAY, Container, Deployable, find_listeners, pid_in_container
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.servers import PATIENCE_S, ping, wait_until

_IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount-proc", "--pid", "--fork", "--kill-child"]


def test_a_local_endpoint_in_a_faithful_container(
    simulated_preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called and stopped like any other; the container outlives its model server."""
    monkeypatch.setenv(LAUNCHER_VARIABLE, "faithful")
    state = start_endpoint(simulated_preset, name="faithful")
    try:
        assert EndpointCaller(state).stream("x", max_new_tokens=3)[-1]["details"]["generated_tokens"] == 3
        processes = container.list_processes(Path(state.run_dir))
        (init,) = [process for process in processes if pid_in_container(process) == 1]
        assert list(find_listeners(init)) == [GATEWAY]
        assert ping(state.gateway_port) == 200
        (server,) = [process for process in processes if process.name() == "java"]
        server.kill()
        lost = wait_until(
            lambda: (now := LocalEndpoint("faithful").describe()).status == "Failed" and now, "it is lost"
        )
        assert "the model server has ended, and /ping has not answered" in lost.reason
        assert init.is_running(), "the container lives on, as it does on AWS"
    finally:
        LocalEndpoint("faithful").stop()
    assert container.list_processes(Path(state.run_dir)) == []
    assert LocalEndpoint("faithful").read_state() is None


def test_an_unknown_launcher_is_refused(
    home: Path, simulated_preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "docker")
    with pytest.raises(LocalEndpointError, match="it is one of: everyday, faithful"):
        start_endpoint(simulated_preset, name="unlaunched")
    assert LocalEndpoint("unlaunched").read_state() is None


def test_kill_gives_up_on_a_process_that_does_not_end(tmp_path: Path) -> None:
    """Process 1 of a namespace ignores every signal that comes from inside."""
    script = (
        "from pathlib import Path; from inf2kit.rehearsal.container import processes; "
        f"print([process.pid for process in processes.kill(Path({str(tmp_path)!r}), wait_s=1.0)])"
    )
    init = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}], env={{}}, check=True)"
    output = subprocess.run(
        [*_IN_A_NAMESPACE, sys.executable, "-c", init],
        env={MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert output.stdout == "[1]\n", output.stderr


def test_a_real_model_runs_with_the_images_packages(
    run: Callable[..., Container], package: Callable[..., Deployable], small_weights: Path
) -> None:
    """Its first layers: transformers and torch compute there, and a stream has the same text."""
    running = run(package(small_weights))
    running.wait_until_ready()
    status, (answer,) = running.generate("My favorite place on earth is", max_new_tokens=8)
    assert status == 200
    events = running.stream("My favorite place on earth is", max_new_tokens=8)[1]
    assert answer["generated_text"] == events[-1]["generated_text"] != ""
