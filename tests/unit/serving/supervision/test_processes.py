"""A child ends with its parent, whatever it is doing: its successor needs its port and its cores."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.servers import wait_until

CHILD = """
import time
from inf2kit.serving.supervision.processes import end_with_parent
end_with_parent()
print("begun", flush=True)
time.sleep(600)
"""
PARENT = """
import sys, time
from pathlib import Path
from inf2kit.serving.supervision.processes import start_child
child = start_child("a_child", "model", (Path(sys.argv[1]), Path.cwd()), {})
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_child_ends_with_its_parent(is_stopped: bool, tmp_path: Path) -> None:
    (tmp_path / "a_child.py").write_text(CHILD, encoding="utf-8")
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        lines = [parent.stdout.readline().strip() for _ in range(2)]
        (pid,) = [int(line) for line in lines if line.isdecimal()]
        child = psutil.Process(pid)
        try:
            if is_stopped:
                child.send_signal(signal.SIGSTOP)
                wait_until(lambda: child.status() == psutil.STATUS_STOPPED, "it is stopped")
            parent.kill()
            wait_until(
                lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it has ended"
            )
        finally:
            parent.kill()
            if child.is_running():
                child.kill()
