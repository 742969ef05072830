"""Output that the commands share: errors as sentences, steps with their seconds, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from inf2kit.errors import Inf2KitError


class Group(click.Group):
    """A group of commands that print inf2kit's and the system's errors as one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Inf2KitError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def step_printer() -> Callable[[str], None]:
    """Return a progress function. It prints each step with the seconds since its own creation."""
    began = time.monotonic()

    def step(phrase: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {phrase}", err=True)

    return step


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns. The first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
