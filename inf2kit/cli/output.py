"""Output that the commands share: steps with their seconds, tables, and folders of results."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from inf2kit.errors import Inf2KitError


def step_printer() -> Callable[[str], None]:
    """Return a progress function. It prints each step with the seconds since its own creation."""
    began = time.monotonic()

    def step(phrase: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {phrase}", err=True)

    return step


def confirm(question: str) -> bool:
    """Ask a question on standard input.

    Raises:
        click.UsageError: standard input is closed, or ends without an answer.
    """
    try:
        if sys.stdin is not None:
            return click.confirm(question)
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        click.echo(err=True)
    raise click.UsageError("there is nobody to ask; give --yes")


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of a terminal; None where a stream, standard output by default, is none."""
    stream = stream or sys.stdout
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else None


def wrap(text: str, indent: int = 0) -> str:
    """Break a text between words to fit a terminal; further lines are indented. Elsewhere it stays whole."""
    width = terminal_width()
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


@contextmanager
def results_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a measurement before it begins, and remove it if nothing was written.

    Raises:
        Inf2KitError: it cannot be made, or nothing can be written there.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise Inf2KitError(
            f"nothing can be written to {folder}: {error.strerror}; give another --output"
        ) from None
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def print_table(rows: Sequence[tuple[str, ...]], *, optional: Sequence[str] = ()) -> None:
    """Print rows in columns. The first row holds the headings.

    On a terminal that is too narrow for them, each row is a paragraph with a line for each heading.

    Args:
        rows: The headings, and the rows.
        optional: Headings of columns that a narrow terminal is not shown; the first is left out first.
    """
    columns = terminal_width()
    if columns is not None:
        for heading in optional:
            if _width(rows) > columns:
                index = rows[0].index(heading)
                rows = [(*row[:index], *row[index + 1 :]) for row in rows]
        if _width(rows) > columns and len(rows[0]) > 1:
            click.echo("\n\n".join(_paragraph(rows[0], row) for row in rows[1:]))
            return
    widths = _widths(rows)
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _width(rows: Sequence[tuple[str, ...]]) -> int:
    return sum(_widths(rows)) + 2 * (len(rows[0]) - 1)


def _paragraph(headings: Sequence[str], row: Sequence[str]) -> str:
    width = max(map(len, headings[1:])) + 4
    lines = [wrap(row[0])]
    for heading, cell in zip(headings[1:], row[1:], strict=True):
        if cell:
            lines.append(wrap(f"  {heading.ljust(width - 2)}{cell}", width))
    return "\n".join(lines)
