"""What the commands print on a terminal, and the help of all commands."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import click
import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main

TABLE = """
from inf2kit.cli.output import print_table
rows = [("NAME", "COLOUR", "SIZE"), ("apple", "as red as can be", "7"), ("fig", "", "12")]
print_table(rows, optional=["COLOUR"])
"""
RECORDS = TABLE.replace(', optional=["COLOUR"]', "")


def run_on_terminal(code: str, columns: int) -> str:
    """Run Python on a terminal of so many columns, and return what it shows."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(master)
    assert process.wait() == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def test_a_table_that_fits_is_one() -> None:
    for columns in (30, 80):
        lines = run_on_terminal(RECORDS, columns).splitlines()
        assert lines[1].split() == ["apple", "as", "red", "as", "can", "be", "7"]


def test_an_optional_column_is_left_out_of_a_narrow_terminal() -> None:
    assert run_on_terminal(TABLE, 20) == "NAME   SIZE\napple  7\nfig    12\n"
    assert "COLOUR" in run_on_terminal(TABLE, 80)


def test_rows_are_paragraphs_on_a_narrow_terminal() -> None:
    assert run_on_terminal(RECORDS, 20) == (
        "apple\n  COLOUR  as red as\n          can be\n  SIZE    7\n\nfig\n  SIZE    12\n"
    )


def test_commands_to_copy_are_never_broken() -> None:
    code = """
from inf2kit.cli.doctor import _print
from inf2kit.doctor import Finding, Report, Status
texts = [f"a {what} of many words" for what in ("reason", "hint", "command")]
line = Finding(Status.PROBLEM, *texts, "it", "here")
_print(Report((line,), "this machine", "nothing"))
"""
    lines = run_on_terminal(code, 24).splitlines()
    assert "       run:  a command of many words" in lines
    assert [line for line in lines if "reason" in line or line == "     many words"]
    assert "             many words" in lines, "below the hint's own beginning"


def test_the_help_names_every_command_once_and_breaks_no_sentence() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2:3].strip()]
    for name in main.commands:
        assert names.count(name) == 1, name
    assert "..." not in text.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    "group", [name for name, each in main.commands.items() if isinstance(each, click.Group)]
)
def test_the_help_of_a_group_breaks_no_sentence(group: str) -> None:
    text = CliRunner().invoke(main, [group, "--help"], terminal_width=80).output
    assert "..." not in text.replace("[ARGS]...", "")
