"""The folder of one compilation: one process at a time, nothing left of one that failed or was killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inf2kit.compile.work import exclusive_work
from tests.helpers.servers import PATIENCE_S, wait_until

HOLD = """
import sys
from pathlib import Path
from inf2kit.compile.work import exclusive_work
with exclusive_work(Path(sys.argv[1]), print) as work:
    (work / "shard").write_bytes(b"x")
    print("working", flush=True)
    sys.stdin.read()
    (work / "model").mkdir()
    (work / "model").rename(sys.argv[1])
"""


def _hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "working\n"
    return process


def test_a_process_that_compiles_the_same_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "compiled" / "0123"
    progress: list[str] = []
    entered = threading.Event()

    def work() -> None:
        with exclusive_work(folder, progress.append) as work:
            assert not list(work.iterdir())
            assert folder.is_dir(), "the other process has compiled it"
            entered.set()

    with _hold(folder) as other:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: progress, "it waits")
        assert progress == [
            f"process {other.pid} compiles the same model for the same shapes; waiting for it"
        ]
        assert not entered.is_set()
        other.communicate("")
        thread.join(PATIENCE_S)
    assert entered.is_set()


def test_what_a_killed_process_has_left_is_deleted_and_a_living_ones_is_not(tmp_path: Path) -> None:
    killed, living, own = (tmp_path / name for name in ("0killed", "1living", "2own"))
    dead = _hold(killed)
    with _hold(living) as other:
        dead.kill()
        dead.communicate()
        assert (killed.with_suffix(".making") / "shard").exists()
        with exclusive_work(own, lambda _: None):
            assert not killed.with_suffix(".making").exists()
            assert (living.with_suffix(".making") / "shard").exists()
        other.communicate("")
    assert living.is_dir()


def test_a_compilation_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with exclusive_work(tmp_path / "0123", lambda _: None) as work:
            (work / "shard").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["0123.lock"]
