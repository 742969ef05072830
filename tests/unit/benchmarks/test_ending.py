"""A benchmark that is ended by a signal ends its servers, also one that it has stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import inf2kit
from tests.helpers.servers import PATIENCE_S, wait_until

ROOT = Path(inf2kit.__file__).parents[1]
#: A benchmark with a server in a session of its own, which SIGSTOP stops, and one that nobody has noted yet.
BENCHMARK = """
import signal, subprocess, sys, time
from benchmarks import servers
from benchmarks.ending import end_children

with end_children():
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with servers._run_process(command, "a server", lambda prompt, new_tokens, sampled: 2) as server:
        other = subprocess.Popen(command, start_new_session=True)
        server.signal(signal.SIGSTOP)
        print(server.processes()[0].pid, other.pid, flush=True)
        time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_its_servers(number: signal.Signals) -> None:
    benchmark = subprocess.Popen(
        [sys.executable, "-c", BENCHMARK],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert benchmark.stdout
    started = [psutil.Process(int(pid)) for pid in benchmark.stdout.readline().split()]
    assert len(started) == 2
    wait_until(lambda: started[0].status() == psutil.STATUS_STOPPED, "its server is stopped")
    benchmark.send_signal(number)
    _, errors = benchmark.communicate(timeout=PATIENCE_S)
    try:
        assert (errors, benchmark.returncode) == ("", 128 + number)
        wait_until(lambda: not any(process.is_running() for process in started), "its servers have ended")
    finally:
        for process in started:
            if process.is_running():
                process.kill()
