"""``inf2kit packages``: list, verify and prune model packages."""

from __future__ import annotations

import datetime as dt

import click

from inf2kit.cli.group import CommandGroup
from inf2kit.cli.output import confirm, print_table
from inf2kit.cli.publishing import PLACE, store_options


@click.group(cls=CommandGroup, short_help="List, verify and prune packages.")
def packages() -> None:
    """Look after the packages of a folder or bucket; 'inf2kit package' makes one."""


@packages.command("list")
@click.argument("place", metavar=PLACE)
@store_options
def list_(place: str, region: str | None, bucket_owner: str | None) -> None:
    """List the packages of a place, and the SageMaker models that use them."""
    from inf2kit.package import list_packages, open_store

    listed = list_packages(open_store(place, region, bucket_owner))
    if not listed:
        click.echo(f"no packages in {place}")
        return
    rows = [("PACKAGE", "PRESET", "MODEL", "SAMPLING", "GB", "TOUCHED", "USED BY")]
    for package in listed:
        stored = package.stored
        rows.append(
            (
                stored.digest,
                package.preset if stored.whole else "(not whole)",
                package.model or "-",
                package.sampling or "-",
                f"{stored.size / 1e9:.2f}",
                f"{stored.touched:%Y-%m-%d %H:%M}",
                ", ".join(package.used_by) or "-",
            )
        )
    print_table(rows)


@packages.command()
@click.argument("package")
@store_options
def verify(package: str, region: str | None, bucket_owner: str | None) -> None:
    """Read every byte of PACKAGE and compare it with the manifest.

    PACKAGE is what 'inf2kit package' printed: a folder or an s3:// URI that ends in the package's digest.
    """
    from inf2kit import package as packaging

    place, digest = packaging.split_uri(package)
    manifest = packaging.verify(packaging.open_store(place, region, bucket_owner), digest)
    handler = f", handler {manifest.handler}" if manifest.handler else ""
    click.echo(
        f"whole: {len(manifest.files)} files, {manifest.size / 1e9:.2f} GB, "
        f"preset {manifest.preset_name}, model {manifest.model}, target {manifest.target}{handler}"
    )


@packages.command()
@click.argument("place", metavar=PLACE)
@click.option(
    "--keep",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="How many of the newest packages of each preset stay.",
)
@click.option(
    "--older-than",
    type=click.IntRange(0, 36_500),
    default=1,
    show_default=True,
    help="Delete only packages that were not touched for so many days.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option(
    "--foreign-accounts-checked",
    is_flag=True,
    help="Confirm that no other account which the bucket's policy lets in uses these packages.",
)
@store_options
def prune(
    place: str,
    keep: int,
    older_than: int,
    dry_run: bool,
    yes: bool,
    foreign_accounts_checked: bool,
    region: str | None,
    bucket_owner: str | None,
) -> None:
    """Delete the packages of a place that no SageMaker model uses."""
    from inf2kit import package as packaging

    store = packaging.open_store(place, region, bucket_owner)
    now = dt.datetime.now(dt.timezone.utc)
    prunable = packaging.select_prunable(
        packaging.list_packages(store), keep=keep, older_than=dt.timedelta(days=older_than), now=now
    )
    if not prunable:
        click.echo("nothing to prune")
        return
    for package in prunable:
        state = package.preset if package.stored.whole else "(not whole)"
        click.echo(f"{store.uri(package.stored.digest)}  {state}  {package.stored.size / 1e9:.2f} GB")
    if dry_run:
        return
    if not (yes or confirm(f"delete these {len(prunable)} packages?")):
        return
    # A package may have been deployed while the question was open: prune asks SageMaker again.
    for sentence in packaging.prune(store, prunable, foreign_accounts_checked=foreign_accounts_checked):
        click.echo(sentence)
