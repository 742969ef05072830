"""The commands that measure: ``inf2kit bench``."""

from __future__ import annotations

import click

from inf2kit.cli.bench.compare import compare
from inf2kit.cli.bench.load import load
from inf2kit.cli.bench.tables import charts, tables
from inf2kit.cli.group import CommandGroup


@click.group(cls=CommandGroup, short_help="Measure an endpoint, and compare measurements.")
def bench() -> None:
    """Measure an endpoint, and compare what was measured."""


bench.add_command(tables)
bench.add_command(charts)
bench.add_command(load)
bench.add_command(compare)
