"""The standard streams of a command: every text is printable, and a failed write is an error of its own."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import time
from typing import Any

#: A shell's status of a program that wrote into a pipe without a reader.
_BROKEN_PIPE_STATUS = 141
_NAMES = ("standard input", "standard output", "standard error")


class OutputError(Exception):
    """Standard output or standard error cannot be written.

    Attributes:
        error: What the system says.
        stream: The number of the stream.
    """

    def __init__(self, error: OSError, stream: int) -> None:
        super().__init__(f"{_NAMES[stream]}: {error.strerror}")
        self.error = error
        self.stream = stream

    def report(self) -> int:
        """Say it, unless a pipe has lost its reader, which is how ``head`` ends; return the exit status."""
        _discard(self.stream)
        if self.error.errno == errno.EPIPE:
            return _BROKEN_PIPE_STATUS
        try:
            print(f"Error: {self}", file=sys.stderr, flush=True)  # noqa: T201
        except OutputError:
            _discard(2)
        return 1


class _StandardStream(io.FileIO):
    """A standard stream that raises OutputError; an OSError may be of any file or connection."""

    def write(self, data: Any) -> int:
        """Write to the stream."""
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error, self.fileno()) from None


def prepare() -> None:
    """Make every text printable and every failed write an OutputError, and reserve the closed streams.

    What a stream's encoding lacks is written as an escape. Writing to a closed standard output is an error,
    as it is for every Unix tool.
    """
    _reserve_closed_streams()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            setattr(sys, name, _guard(stream.fileno(), stream.encoding))


def check() -> None:
    """Write what is in the buffers.

    Raises:
        OutputError: a stream cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def wait(seconds: float) -> None:
    """Wait, as long as somebody can read standard output.

    Raises:
        OutputError: it is a pipe whose reader has ended.
    """
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        time.sleep(seconds)
        return
    if poll.poll(1e3 * seconds):
        raise OutputError(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), 1)


def _discard(number: int) -> None:
    """Lose what is in a stream's buffer: Python would try to write it at exit, and complain."""
    target = os.open(os.devnull, os.O_WRONLY)
    os.dup2(target, number)
    os.close(target)


def _reserve_closed_streams() -> None:
    """Open the null device in place of each closed stream, since the next file would get its number.

    It is opened for reading only in place of standard output, where writing must fail.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is not None:
            continue
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue  # Python was started without it, but it is in use
        os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # takes the lowest free number
        if number == 1:
            sys.stdout = _guard(1, "utf-8")


def _guard(number: int, encoding: str) -> io.TextIOWrapper:
    stream = io.BufferedWriter(_StandardStream(number, "w", closefd=False))
    return io.TextIOWrapper(stream, encoding, "backslashreplace", line_buffering=number == 2)
