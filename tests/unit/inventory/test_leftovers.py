"""What rehearsals leave on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from inf2kit import paths
from inf2kit.doctor import Status, Surroundings, leftovers
from inf2kit.inventory import machine
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.local.endpoint import RUN_DIR_PREFIX
from inf2kit.rehearsal.local.state import EndpointState


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home and a folder of temporary files that nobody else uses."""
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def look() -> list[tuple[Status, str]]:
    surroundings = Surroundings(offline=True)
    return [(finding.status, finding.reason) for finding in leftovers.on_this_machine(surroundings)]


def test_a_clean_machine() -> None:
    assert not machine.has_traces()
    assert look() == [(Status.OK, "none")]


def test_an_endpoint_whose_host_is_gone(own_folders: Path) -> None:
    folder = paths.endpoints() / "dead"
    folder.mkdir(parents=True)
    run_dir = own_folders / f"{RUN_DIR_PREFIX}dead"
    run_dir.mkdir()
    EndpointState("dead", "smollm2-135m-local", 1, 2, str(run_dir), host_pid=2**22 + 1).write(folder)
    assert machine.has_traces()
    assert look() == [(Status.ADVICE, "left by earlier runs: local endpoint dead (Failed)")]
    (leftover,) = machine.scan_machine()
    assert (leftover.running, leftover.command) == (False, "inf2kit local down dead")
    leftover.remove()
    assert machine.scan_machine() == []
    assert not run_dir.exists()


def test_a_cloud_that_has_ended(own_folders: Path) -> None:
    run_dir = own_folders / "inf2cloud-ended"
    run_dir.mkdir()
    CloudSettings(paths.home() / "cloud", run_dir, 4999, "us-east-1", 1.0, "key", pid=2**22 + 1).write()
    (leftover,) = machine.scan_machine()
    assert (leftover.kind, leftover.status) == ("rehearsal cloud", "ended")
    leftover.remove()
    assert machine.scan_machine() == []
    assert not run_dir.exists()


def test_only_old_folders_of_sockets_are_left_over(own_folders: Path) -> None:
    for name in (f"{RUN_DIR_PREFIX}old", f"{RUN_DIR_PREFIX}new", "inf2kit-sources"):
        (own_folders / name).mkdir()
        if not name.endswith("new"):
            os.utime(own_folders / name, (0, 0))
    (leftover,) = machine.scan_machine()
    assert leftover.name == str(own_folders / f"{RUN_DIR_PREFIX}old")
    leftover.remove()
    assert sorted(path.name for path in own_folders.iterdir() if path.name.startswith("inf2")) == [
        "inf2kit-sources",
        f"{RUN_DIR_PREFIX}new",
    ]
