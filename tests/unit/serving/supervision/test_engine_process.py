"""An engine as its supervisor sees it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from inf2kit.serving.supervision.engine_process import EngineProcess
from inf2kit.serving.supervision.heartbeat import Heartbeat


def test_an_engine_that_was_killed_while_it_loaded_keeps_no_other_from_loading(tmp_path: Path) -> None:
    """Its device may hold it for ever, and the others of the container load one after the other."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    engine = EngineProcess(lambda: subprocess.Popen(command), Heartbeat.create(), tmp_path)
    engine.watch()
    try:
        assert engine.is_loading
        # As after a load of a second, and another one of an hour so far.
        engine._longest_load_s, engine._load_began = 1.0, time.monotonic() - 3600
        engine.watch()
        assert not engine.is_loading
    finally:
        engine.kill()
        engine.wait()
