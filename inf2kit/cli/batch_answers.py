"""The file of a batch's answers, which are in the order of its requests and lost by no interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class AnswersFile:
    """A line for each request, in order, and beside it a file of the answers that are ahead of their turn.

    An answer is paid for when it comes, so it is written at once, even if an earlier one is still missing.

    Args:
        path: The file. The answers that wait are in ``PATH.ahead`` beside it until they have their turn.
        total: Number of requests.

    Attributes:
        unanswered: The indexes of the requests that an earlier run has left, in order.

    Raises:
        click.ClickException: one of the two files is of something else.
    """

    def __init__(self, path: Path, total: int) -> None:
        self._ahead_path = path.with_name(f"{path.name}.ahead")
        lines = _read_whole_lines(path, lambda value: "text" in value or "error" in value)
        waiting = _read_whole_lines(self._ahead_path, lambda value: {"index", "line"} == value.keys())
        self._next = len(lines)
        self._waiting = {value["index"]: value["line"] for value in waiting if value["index"] >= self._next}
        if max([self._next, *(index + 1 for index in self._waiting)]) > total:
            raise _not_ours(path)
        self.unanswered = [index for index in range(self._next, total) if index not in self._waiting]
        self._file = path.open("ab")
        self._ahead = self._ahead_path.open("ab")
        self._write_waiting()

    @property
    def answered(self) -> int:
        """Number of the answers that are there."""
        return self._next + len(self._waiting)

    def add(self, index: int, line: dict[str, Any]) -> None:
        """Write the answer of a request."""
        if index != self._next:
            self._ahead.write(_encode({"index": index, "line": line}))
            self._ahead.flush()
        self._waiting[index] = line
        self._write_waiting()

    def __enter__(self) -> AnswersFile:
        """Begin to write."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files, and remove that of the waiting answers if none waits."""
        self._file.close()
        self._ahead.close()
        if not self._waiting:
            self._ahead_path.unlink(missing_ok=True)

    def _write_waiting(self) -> None:
        while self._next in self._waiting:
            self._file.write(_encode(self._waiting[self._next]))
            self._file.flush()
            del self._waiting[self._next]
            self._next += 1
        if not self._waiting:
            self._ahead.truncate(0)


def _read_whole_lines(path: Path, is_ours: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Read the lines of an earlier run, and remove a half-written last one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = content.rfind(b"\n") + 1
    try:
        values = [json.loads(line) for line in content[:whole].splitlines()]
        ours = all(isinstance(value, dict) and is_ours(value) for value in values)
    except ValueError:
        ours = False
    if not ours:
        raise _not_ours(path)
    if whole < len(content):
        os.truncate(path, whole)
    return values


def _not_ours(path: Path) -> click.ClickException:
    return click.ClickException(f"{path} is not the output of an earlier run of this input; give another")


def _encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
