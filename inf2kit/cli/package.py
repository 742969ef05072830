"""``inf2kit package``: make, verify, list and prune model packages."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit import names
from inf2kit.cli.output import steps, table
from inf2kit.errors import PackageError
from inf2kit.presets import Preset

if TYPE_CHECKING:
    from inf2kit.package import Store

_EMBEDDED = "embedded"


@click.command()
@click.argument("source", required=False)
@click.option("--preset", help="What the package is for: a preset's name, or a .toml file.")
@click.option("--output", metavar="DIR|s3://BUCKET/PREFIX", help="Where packages lie.")
@click.option("--revision", help="The model's revision on its hub, for the record.")
@click.option(
    "--rehearsal",
    is_flag=True,
    help="A Neuron preset gets the embedded model on the CPU; every answer says so.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--verify", metavar="PACKAGE", help="Read every byte of a package and compare it.")
@click.option("--list", "listing", metavar="DIR|s3://BUCKET/PREFIX", help="List the packages of a place.")
@click.option(
    "--prune", metavar="DIR|s3://BUCKET/PREFIX", help="Delete packages that no SageMaker model uses."
)
@click.option(
    "--keep", type=click.IntRange(0), default=2, show_default=True, help="Newest of each preset to keep."
)
@click.option(
    "--older-than",
    type=click.IntRange(0, 36_500),
    default=1,
    show_default=True,
    help="Days since it was touched.",
)
@click.option("--yes", is_flag=True, help="Prune without asking.")
@click.option(
    "--foreign-accounts-checked",
    is_flag=True,
    help="Prune though the bucket's policy lets other accounts in: none of them uses these packages.",
)
@click.option("--region", help="The region that deploys; boto3's own by default.")
@click.option("--bucket-owner", metavar="ACCOUNT", help="Whose the bucket is; the caller's by default.")
def package(
    source: str | None,
    preset: str | None,
    output: str | None,
    revision: str | None,
    rehearsal: bool,
    dry_run: bool,
    verify: str | None,
    listing: str | None,
    prune: str | None,
    keep: int,
    older_than: int,
    yes: bool,
    foreign_accounts_checked: bool,
    region: str | None,
    bucket_owner: str | None,
) -> None:
    """Make a model package of SOURCE, a directory of weights and tokenizer ('embedded': the embedded model).

    The package is one immutable folder named by its digest, which changes with every byte in it:

        inf2kit package DIR --preset llama2-7b-latency --output s3://BUCKET/models

    It is what 'cdk deploy' takes. Running the same command again goes on where it stopped.
    """
    asked = [name for name in (verify, listing, prune, source) if name]
    if len(asked) != 1:
        raise click.UsageError("give one of SOURCE, --verify, --list and --prune")
    at = partial(_at, region=region, bucket_owner=bucket_owner)
    if verify:
        _verify(verify, at)
    elif listing:
        _list(listing, at(listing))
    elif prune:
        _prune(at(prune), keep, dt.timedelta(days=older_than), dry_run, yes, foreign_accounts_checked)
    elif not (preset and output):
        raise click.UsageError("SOURCE needs --preset and --output")
    else:
        _make(str(source), preset, output, revision, rehearsal, dry_run, at)


def _at(place: str, region: str | None, bucket_owner: str | None) -> Store:
    from inf2kit.package import at

    return at(place, region, bucket_owner)


def _make(
    source: str,
    preset: str,
    output: str,
    revision: str | None,
    rehearsal: bool,
    dry_run: bool,
    at: Callable[[str], Store],
) -> None:
    from inf2kit.rehearsal import model

    step = steps()
    chosen, store = inf2kit.load_preset(preset), at(output)
    # A typing error in the place must not cost the time that hashing takes.
    store.check_writable()
    weights = model.prepare(step) if source == _EMBEDDED else Path(source)
    if "://" not in output and Path(output).resolve().is_relative_to(weights.resolve()):
        raise PackageError(
            f"{output} lies inside {weights}, and would be packaged too; choose another --output"
        )
    publish_contents(
        chosen, preset, weights, store, step, revision=revision, rehearsal=rehearsal, dry_run=dry_run
    )


def publish_contents(
    preset: Preset,
    preset_argument: str,
    weights: Path,
    store: Store,
    step: Callable[[str], None],
    *,
    revision: str | None = None,
    rehearsal: bool = False,
    dry_run: bool = False,
) -> None:
    """Package a folder, and say where it is and how it is deployed.

    Args:
        preset: What the package says it is.
        preset_argument: The preset as the user has written it, a name or a file.
        weights: The folder.
        store: Where the package goes.
        step: Told each step.
        revision: The model's revision on its hub.
        rehearsal: Whether the embedded model stands in for a preset's own.
        dry_run: Whether to say what would be done only.
    """
    from inf2kit import paths
    from inf2kit.package import gather, plan, publish

    step(f"hashing {weights}")
    contents = gather(preset, weights, revision=revision, rehearsal=rehearsal)
    if dry_run:
        click.echo("\n".join(plan(contents, store).lines()))
        return
    try:
        done = publish(contents, store, step)
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        # Threads are still sending; waiting for them is what the user does not want.
        os._exit(130)
    click.echo(done.where)
    paths.keep_manifest(done.digest, contents.manifest.to_bytes())
    if done.where.startswith("s3://") and preset.compute.backend == "neuron":
        own = f" -c preset={preset_argument}" if preset_argument.endswith(".toml") else ""
        click.echo(
            f"deploy: cdk deploy {names.stack_name(preset.name)}{own} -c package={done.where}", err=True
        )


def _verify(where: str, at: Callable[[str], Store]) -> None:
    from inf2kit.package import split
    from inf2kit.package import verify as verified

    place, digest = split(where)
    manifest = verified(at(place), digest)
    click.echo(
        f"whole: {len(manifest.files)} files, {manifest.size / 1e9:.2f} GB, "
        f"preset {manifest.preset_name}, target {manifest.target}"
    )


def _list(place: str, store: Store) -> None:
    from inf2kit.package import listed

    packages = listed(store)
    if not packages:
        click.echo(f"no packages in {place}")
        return
    rows = [("PACKAGE", "PRESET", "GB", "TOUCHED", "USED BY")]
    for each in packages:
        stored = each.stored
        users = ", ".join(each.used_by) or "-"
        rows.append(
            (
                stored.digest,
                each.preset if stored.whole else "(not whole)",
                f"{stored.size / 1e9:.2f}",
                f"{stored.touched:%Y-%m-%d %H:%M}",
                users,
            )
        )
    table(rows)


def _prune(
    store: Store,
    keep: int,
    older_than: dt.timedelta,
    dry_run: bool,
    yes: bool,
    foreign_accounts_checked: bool,
) -> None:
    from inf2kit.package import listed, prune, to_prune

    chosen = to_prune(listed(store), keep=keep, older_than=older_than, now=dt.datetime.now(dt.timezone.utc))
    if not chosen:
        click.echo("nothing to prune")
        return
    for each in chosen:
        state = each.preset if each.stored.whole else "(not whole)"
        click.echo(f"{store.where(each.stored.digest)}  {state}  {each.stored.size / 1e9:.2f} GB")
    if dry_run or not (yes or click.confirm(f"delete these {len(chosen)} packages?")):
        return
    # Somebody may have deployed one of them while that question was open.
    for sentence in prune(store, chosen, foreign_accounts_checked=foreign_accounts_checked):
        click.echo(sentence)
