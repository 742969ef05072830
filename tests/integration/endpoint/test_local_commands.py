"""The command line against real processes: whatever ends a command, ``local down`` leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.servers import PATIENCE_S, wait_until

INF2KIT = str(Path(sys.executable).parent / "inf2kit")


def inf2kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INF2KIT, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def begin_up(preset: str, name: str) -> tuple[subprocess.Popen[bytes], EndpointState]:
    """A ``local up`` in the middle: its container has processes, and is not ready."""
    command = subprocess.Popen(
        [INF2KIT, "local", "up", preset, "--name", name],
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: (begun := LocalEndpoint(name).read_state()) and begun.host(), "the host runs")
    begun = LocalEndpoint(name).read_state()
    assert begun is not None
    wait_until(
        lambda: len(processes.list_processes(Path(begun.run_dir))) >= 3, "the container's processes run"
    )
    return command, begun


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_up_has_started(simulated_preset: str, number: signal.Signals) -> None:
    command, begun = begin_up(simulated_preset, "interrupted")
    command.send_signal(number)
    assert command.wait(PATIENCE_S) == 128 + number
    assert processes.list_processes(Path(begun.run_dir)) == []
    assert begun.host() is None
    assert LocalEndpoint("interrupted").read_state() is None


def test_down_ends_what_a_killed_up_has_left(simulated_preset: str) -> None:
    command, begun = begin_up(simulated_preset, "killed")
    command.kill()
    command.wait()
    host = begun.host()
    assert host is not None, "the endpoint goes on without the command that started it"
    host.kill()
    host.wait(PATIENCE_S)
    assert processes.list_processes(Path(begun.run_dir)), "and its container without the host"
    assert "killed" in inf2kit("local", "status").stdout
    assert inf2kit("local", "down", "killed").stdout == "killed is stopped\n"
    assert processes.list_processes(Path(begun.run_dir)) == []
    assert "killed" not in inf2kit("local", "status").stdout


def test_generate_whole_and_streamed(served: EndpointState) -> None:
    prompt = ("My favorite place on earth is", "--max-new-tokens", "8")
    whole = inf2kit("generate", served.name, *prompt)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.startswith(" the ocean")
    assert inf2kit("generate", served.name, *prompt, "--stream").stdout == whole.stdout
    sampled = ("--temperature", "0.9", "--top-k", "50", "--top-p", "0.9", "--seed", "3")
    assert inf2kit("generate", served.name, *prompt, *sampled).returncode == 0


def test_status_logs_and_a_name_that_is_taken(served: EndpointState) -> None:
    assert f"{served.name}" in inf2kit("local", "status").stdout
    assert "inf2kit engine: ready" in inf2kit("local", "logs", served.name).stdout
    taken = inf2kit("local", "up", "smollm2-135m-local", "--name", served.name)
    assert taken.returncode != 0
    assert "is up already (InService)" in taken.stderr
    bad = inf2kit("generate", served.name, "x", "--top-p", "2")
    assert (bad.returncode, "'top_p' is 2" in bad.stderr, "Traceback" in bad.stderr) == (1, True, False)
