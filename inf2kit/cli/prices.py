"""``inf2kit prices``: what an hour costs."""

from __future__ import annotations

import click

from inf2kit.cli.output import table


@click.group(invoke_without_command=True)
@click.pass_context
def prices(ctx: click.Context) -> None:
    """List what an hour of each instance costs."""
    if ctx.invoked_subcommand is not None:
        return
    from inf2kit.catalog.prices import current

    known = current()
    rows = [("REGION", "INSTANCE", "USD/HOUR")]
    for region, instances in known.per_hour.items():
        rows += [(region, instance, f"{price:.2f}") for instance, price in instances.items()]
    table(rows)
    click.echo(f"\n{known.date}, {known.source}")


@prices.command("refresh")
@click.option(
    "--region", "regions", multiple=True, help="A region to ask for; repeatable. Default: boto3's own."
)
def refresh(regions: tuple[str, ...]) -> None:
    """Ask the AWS Price List API, and keep its answer for later."""
    from inf2kit.catalog.prices import refresh as ask

    found = ask(regions)
    count = sum(len(instances) for instances in found.per_hour.values())
    click.echo(f"{count} prices of {', '.join(found.per_hour)} are kept; 'inf2kit prices' lists them")
