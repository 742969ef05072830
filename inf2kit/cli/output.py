"""What the commands share: errors as sentences, steps with their seconds, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from inf2kit.errors import Inf2KitError


class Group(click.Group):
    """A group whose commands end with one sentence on an error of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Inf2KitError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            # Nobody has made a sentence of it; the system's own is better than a traceback.
            raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def steps() -> Callable[[str], None]:
    """A progress function that prints each step with the seconds since the first."""
    began = time.monotonic()

    def step(phrase: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {phrase}", err=True)

    return step


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows as columns; the first row is their heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
