"""``inf2kit prices``: hosting prices of instances."""

from __future__ import annotations

import click

from inf2kit.catalog import prices as price_lists
from inf2kit.cli.account import REGION_DEFAULT, profile_option
from inf2kit.cli.group import CommandGroup
from inf2kit.cli.output import print_table


@click.group(
    cls=CommandGroup, invoke_without_command=True, short_help="List what an hour of each instance costs."
)
@click.pass_context
def prices(ctx: click.Context) -> None:
    """List the price of an hour of each instance."""
    if ctx.invoked_subcommand is not None:
        return
    price_list = price_lists.current()
    rows = [("REGION", "INSTANCE", "USD/HOUR")]
    for region, by_type in price_list.usd_per_hour.items():
        rows += [(region, instance_type, f"{usd:.2f}") for instance_type, usd in by_type.items()]
    print_table(rows)
    click.echo(f"\n{price_list.date}, {price_list.source}")


@prices.command("refresh")
@click.option("--region", "regions", multiple=True, help=f"A region to ask for. Repeatable. {REGION_DEFAULT}")
@profile_option
def refresh(regions: tuple[str, ...]) -> None:
    """Fetch prices from the AWS Price List API and save them for later."""
    price_list = price_lists.refresh(regions)
    count = sum(len(by_type) for by_type in price_list.usd_per_hour.values())
    regions_saved = ", ".join(price_list.usd_per_hour)
    click.echo(f"{count} prices of {regions_saved} are saved; 'inf2kit prices' lists them")
