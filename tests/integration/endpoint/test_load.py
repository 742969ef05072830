"""``inf2kit bench load`` against local endpoints: its counts are the server's, and Ctrl-C keeps what "
"there is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.servers import PATIENCE_S, wait_until

INF2KIT = str(Path(sys.executable).parent / "inf2kit")


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "load.json").read_bytes())
    return report


@pytest.mark.parametrize("transport", ["async", "boto3", "openai"])
def test_the_clients_sums_are_the_servers(victim: EndpointState, tmp_path: Path, transport: str) -> None:
    """Its steps take 20 ms: of an endpoint whose steps take nothing, a busy client sees no stream."""
    options = ("--callers", "2", "--requests", "24", "--input-tokens", "32-64", "--new-tokens", "4-16")
    command = [
        INF2KIT,
        "bench",
        "load",
        victim.name,
        *options,
        "--rate",
        "10",
        "--transport",
        transport,
        "--output",
        "out",
    ]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert result.returncode == 0, result.stderr
    assert "simulated" in result.stdout
    report = read(tmp_path / "out")
    assert any("simulated" in notice for notice in report["notices"])
    assert report["sampling"] == "host"
    for cell in report["cells"]:
        tokens = sum(sample["generated_tokens"] for sample in cell["samples"])
        assert tokens == sum(sample["wanted_tokens"] for sample in cell["samples"])
        assert tokens == cell["server"]["inf2kit_generated_tokens_total"]
        names = {finding["name"] for finding in cell["checks"]}
        assert not names & {"server_tokens", "output_lengths", "input_lengths", "failures", "no_streaming"}


def test_ctrl_c_keeps_what_there_is(victim: EndpointState, tmp_path: Path) -> None:
    options = ("--callers", "2,8", "--seconds", "600", "--input-tokens", "32", "--new-tokens", "20")
    command = subprocess.Popen(
        [INF2KIT, "bench", "load", victim.name, *options, "--output", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "progress").open("w"),
        text=True,
    )
    try:
        # Other lines come before the first load.
        wait_until(
            lambda: re.search(r": [1-9]\d* calls", last_line(tmp_path / "progress")), "some calls have ended"
        )
        command.send_signal(signal.SIGINT)
        output, _ = command.communicate(timeout=PATIENCE_S)
    finally:
        command.kill()
    assert command.returncode == 128 + signal.SIGINT
    assert "few_calls at 2 callers: it was interrupted" in output
    (cell,) = read(tmp_path / "out")["cells"]
    assert cell["interrupted"]
    assert any(sample["failure"] is None for sample in cell["samples"])
    assert (tmp_path / "out" / "report.html").exists()


def last_line(path: Path) -> str:
    """The last line of progress; empty before the first."""
    return (["", *path.read_text(encoding="utf-8").splitlines()])[-1]
