"""Output that the commands share: steps with their seconds, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import click


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


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns. The first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
