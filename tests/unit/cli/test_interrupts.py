"""Ctrl-C before a command runs, and after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.servers import PATIENCE_S

INF2KIT = str(Path(sys.executable).with_name("inf2kit"))
#: Python imports it at its start. It sends the process Ctrl-C at the import of a module, and at the end.
SITE = """
import atexit, os, sys
from _signal import SIGINT  # signal itself is imported by the command

class Interrupter:
    def find_spec(self, name, *_):
        if name == os.environ["MODULE"]:
            os.kill(os.getpid(), SIGINT)

sys.meta_path.insert(0, Interrupter())
if os.environ["MODULE"] == "none":
    atexit.register(os.kill, os.getpid(), SIGINT)
"""


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(tmp_path: Path, module: str, *arguments: str, ignore: bool = False) -> tuple[int, str, str]:
    """Return the status and the output of a command that is interrupted at the import of a module."""
    (tmp_path / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    ended = subprocess.run(
        [INF2KIT, *arguments],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MODULE": module},
        preexec_fn=ignore_interrupts if ignore else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    "module", ["signal", "inf2kit.cli.commands", "click", "inf2kit.errors", "inf2kit.cli.verify"]
)
def test_ctrl_c_ends_a_command_that_is_still_being_imported(tmp_path: Path, module: str) -> None:
    assert run(tmp_path, module, "presets") == (130, "", "")


def test_ctrl_c_ends_a_command_that_imports_what_it_needs(tmp_path: Path) -> None:
    status, _, errors = run(tmp_path, "inf2kit.presets.loader", "presets")
    assert (status, errors.strip()) == (130, "")


def test_ctrl_c_after_the_command_is_no_traceback_either(tmp_path: Path) -> None:
    status, output, errors = run(tmp_path, "none", "--version")
    assert (status, errors) == (130, "")
    assert output.startswith("inf2kit, version")


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    status, output, errors = run(tmp_path, "click", "--version", ignore=True)
    assert (status, errors) == (0, "")
    assert output.startswith("inf2kit, version")
