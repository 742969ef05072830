"""The commands that measure: ``inf2kit bench``."""

from __future__ import annotations

import click


@click.group()
def bench() -> None:
    """Measure an endpoint, and compare what was measured."""
