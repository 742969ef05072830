"""``inf2kit cleanup``: delete what of inf2kit bills or lies about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from inf2kit import aws
from inf2kit.catalog import prices
from inf2kit.cli.account import REGION_DEFAULT, profile_option
from inf2kit.cli.output import confirm, print_table, step_printer
from inf2kit.errors import DeploymentError, Inf2KitError, PackageError
from inf2kit.extras import install_command

if TYPE_CHECKING:
    from inf2kit.doctor import Surroundings
    from inf2kit.inventory import CleanupPlan, Inventory
    from inf2kit.inventory.machine import Leftover
    from inf2kit.package import ListedPackage, Store


@click.command(short_help="List what exists and what it costs, and delete it.")
@click.option("--region", help=f"The region to clean up. {REGION_DEFAULT}")
@click.option("--local", "only_local", is_flag=True, help="Only this machine; AWS is not called.")
@click.option(
    "--packages",
    "place",
    metavar="s3://BUCKET/PREFIX",
    help="Also delete the packages there that no model uses.",
)
@click.option(
    "--foreign-accounts-checked",
    is_flag=True,
    help="Confirm that no other account which the bucket's policy lets in uses these packages.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@profile_option
def cleanup(
    region: str | None,
    only_local: bool,
    place: str | None,
    foreign_accounts_checked: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """List what of inf2kit exists, with its cost, and delete it after a question.

    That is what has inf2kit's tag in one region, and local endpoints and the rehearsal cloud of this
    machine. What belongs to a CloudFormation stack stays: 'cdk destroy' deletes it.
    """
    errors: list[str] = []
    leftovers = _list_leftovers(errors)
    surroundings = None if only_local else _reach_aws(region, errors)
    inventory = surroundings.inventory if surroundings else None
    plan = _plan(inventory)
    errors += inventory.failures if inventory else ()
    store, packages = _list_packages(place, surroundings, plan) if place else (None, [])
    if inventory:
        _print_account(inventory, plan, place)
    _print_packages(store, packages)
    _print_leftovers(leftovers)
    count = len(plan.deletions) + len(packages) + len(leftovers)
    if not count:
        click.echo("nothing to delete" if not errors else "nothing to delete of what could be listed")
    elif not dry_run and (yes or confirm(f"delete these {count}?" if count > 1 else "delete it?")):
        _delete_on_aws(plan, region, errors)
        _delete_packages(store, packages, foreign_accounts_checked, errors)
        _remove(leftovers, errors)
    for error in dict.fromkeys(errors):
        click.echo(f"Error: {error}", err=True)
    return int(bool(errors))


def _reach_aws(region: str | None, errors: list[str]) -> Surroundings | None:
    """Return the account's surroundings; None, and a sentence among the errors, without AWS."""
    from inf2kit.doctor import Surroundings

    try:
        with aws.translate_errors(DeploymentError, "listing what exists on AWS"):
            if region:
                aws.check_region(region)
            surroundings = Surroundings(region=region or aws.default_region())
        surroundings.identify()
    except DeploymentError as error:
        errors.append(f"{error}; or clean up this machine alone with --local")
        return None
    return surroundings


def _plan(inventory: Inventory | None) -> CleanupPlan:
    from inf2kit.inventory import CleanupPlan, plan_cleanup

    return plan_cleanup(inventory) if inventory else CleanupPlan((), ())


def _delete_on_aws(plan: CleanupPlan, region: str | None, errors: list[str]) -> None:
    from inf2kit.inventory import delete

    # Somebody may have deployed, or changed a stack, while the question was open.
    surroundings = _reach_aws(region, errors) if plan.deletions else None
    if surroundings is None:
        return
    plan_now = _plan(surroundings.inventory).restricted_to(plan)
    for outcome in delete(plan_now, surroundings.client, step_printer()):
        if outcome.error:
            errors.append(outcome.error)
            continue
        verb = "stopped" if outcome.resource.kind == "compilation job" else "deleted"
        click.echo(f"{verb} {outcome.resource.label}")


def _delete_packages(
    store: Store | None, packages: Sequence[ListedPackage], foreign_accounts_checked: bool, errors: list[str]
) -> None:
    from inf2kit import package as packaging

    if store is None or not packages:
        return
    try:
        for sentence in packaging.prune(store, packages, foreign_accounts_checked=foreign_accounts_checked):
            click.echo(sentence)
    except PackageError as error:
        errors.append(str(error))


def _list_packages(
    place: str, surroundings: Surroundings | None, plan: CleanupPlan
) -> tuple[Store | None, list[ListedPackage]]:
    """List the packages of a place that nothing uses once the plan is carried out."""
    from inf2kit import package as packaging
    from inf2kit.inventory.packages import split_unused

    if surroundings is None:
        return None, []
    store = packaging.open_store(place, surroundings.region)
    models = {resource.name for resource in plan.deletions if resource.kind == "model"}
    now = dt.datetime.now(dt.timezone.utc)
    unused, new = split_unused(packaging.list_packages(store), models, now)
    if new:
        click.echo(f"packages in {place} that nothing uses, but younger than an hour, stay: {len(new)}")
    return store, unused


def _list_leftovers(errors: list[str]) -> list[Leftover]:
    from inf2kit.inventory import machine

    try:
        return machine.scan_machine()
    except ImportError as error:
        if machine.has_traces():
            errors.append(
                f"there are folders of local endpoints, and 'inf2kit cleanup' needs {error.name!r}, which is "
                f"not installed; run: {install_command('local')}"
            )
        return []


def _print_account(inventory: Inventory, plan: CleanupPlan, place: str | None) -> None:
    from inf2kit.doctor.surroundings import stand_in

    simulated = f" ({stand_in()} stands in for AWS: nothing is billed)" if stand_in() else ""
    click.echo(f"in {inventory.region}{simulated}:")
    notes = [(resource, "") for resource in plan.deletions]
    notes += [(retained.resource, f"stays: {retained.reason}") for retained in plan.retained]
    rows = [("KIND", "NAME", "STATUS", "", "COST", "")]
    rows += [
        (resource.kind, resource.name, resource.status or "-", resource.detail, resource.cost, note)
        for resource, note in notes
    ]
    if len(rows) == 1:
        click.echo("nothing has inf2kit's tag")
    else:
        print_table(rows)
    if inventory.billing:
        price_list, total = prices.current(), f"${inventory.usd_per_hour:.2f} an hour"
        elsewhere = (
            "" if inventory.region in price_list.usd_per_hour else f", not those of {inventory.region}"
        )
        click.echo(f"together {total}, as far as prices are known; prices of {price_list.dated}{elsewhere}")
    for command in dict.fromkeys(retained.command for retained in plan.retained if retained.command):
        click.echo(f"run: {command}")
    if inventory.package_places and not place:
        places = ", ".join(inventory.package_places)
        click.echo(f"packages in {places} stay; add --packages PLACE to delete those that no model uses")


def _print_packages(store: Store | None, packages: Sequence[ListedPackage]) -> None:
    for package in packages if store else ():
        assert store is not None  # noqa: S101 - packages come from a store
        size = f"{package.stored.size / 1e9:.2f} GB in S3"
        click.echo(f"package {store.uri(package.stored.digest)}  {package.preset or '(not whole)'}  {size}")


def _print_leftovers(leftovers: Sequence[Leftover]) -> None:
    if leftovers:
        click.echo("on this machine:")
        print_table(
            [("KIND", "NAME", "STATUS"), *((other.kind, other.name, other.status) for other in leftovers)]
        )


def _remove(leftovers: Sequence[Leftover], errors: list[str]) -> None:
    for leftover in leftovers:
        try:
            leftover.remove()
        except (Inf2KitError, OSError) as error:  # the others are removed all the same
            errors.append(f"{leftover.label}: {error}")
        else:
            click.echo(f"deleted {leftover.label}")
