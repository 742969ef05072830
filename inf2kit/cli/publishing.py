"""What the commands that publish packages share: their options, and publishing itself."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inf2kit import names
from inf2kit.cli.account import REGION_DEFAULT, chosen_profile, profile_option
from inf2kit.presets import Preset

if TYPE_CHECKING:
    from inf2kit.package import Store

#: Of ``--output`` and PLACE.
PLACE = "DIR|s3://BUCKET/PREFIX"

handler_option = click.option(
    "--handler",
    type=click.Path(path_type=Path),
    help="A Python file that ships as code/inference.py in place of inf2kit's own.",
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--region``, ``--profile`` and ``--bucket-owner``."""
    region = click.option("--region", help=f"The bucket's region. {REGION_DEFAULT}")
    owner = click.option(
        "--bucket-owner",
        metavar="ACCOUNT",
        help="The AWS account that owns the bucket; the caller's by default.",
    )
    return region(profile_option(owner(command)))


def encryption_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--sse`` and ``--sse-kms-key-id``, which the command gets as ``encryption``."""

    @click.option(
        "--sse",
        type=click.Choice(names.ENCRYPTION_METHODS),
        help="How S3 encrypts what is written, where the bucket's policy demands it with every call.",
    )
    @click.option("--sse-kms-key-id", metavar="KEY", help="The key of KMS that encrypts it.")
    @functools.wraps(command)
    def with_encryption(*arguments: Any, sse: str | None, sse_kms_key_id: str | None, **options: Any) -> Any:
        from inf2kit.package.stores.encryption import Encryption

        return command(*arguments, encryption=Encryption.from_options(sse, sse_kms_key_id), **options)

    return with_encryption


def publish_contents(
    preset: Preset,
    preset_argument: str,
    weights: Path,
    store: Store,
    progress: Callable[[str], None],
    *,
    revision: str | None = None,
    rehearsal: bool = False,
    handler: Path | None = None,
    model_name: str | None = None,
    dry_run: bool = False,
) -> None:
    """Publish a folder as a package, and print its place and the command that deploys it.

    Args:
        preset: The preset that the manifest records.
        preset_argument: The preset as the user wrote it, a name or a file.
        weights: The folder of weights and tokenizer.
        store: Where the package goes.
        progress: Called with the name of each step.
        revision: The model's revision on its hub.
        rehearsal: Whether the embedded model stands in for a Neuron preset's own.
        handler: The user's own ``inference.py``.
        model_name: The model's own name, where it is not the preset's model.
        dry_run: Print the plan only.
    """
    from inf2kit import paths
    from inf2kit.package import collect, publish

    contents = collect(
        preset,
        weights,
        revision=revision,
        rehearsal=rehearsal,
        handler=handler,
        model_name=model_name,
        progress=click.echo if dry_run else progress,
    )
    plan = publish.plan(contents, store)
    if dry_run:
        click.echo("\n".join(plan.lines()))
        return
    try:
        publish.execute(plan, progress)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo("stopped; the same command continues from here", err=True)
        # Upload threads are still running. A normal exit would wait for them.
        os._exit(stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130)
    click.echo(plan.uri)
    paths.save_manifest(plan.digest, contents.manifest.to_bytes())
    print_deploy_command(preset, preset_argument, plan.uri, store)


def print_deploy_command(preset: Preset, preset_argument: str, uri: str, store: Store) -> None:
    """Print the command that deploys a package, if it is one for an endpoint."""
    if uri.startswith("s3://") and preset.compute.backend == "neuron":
        words = ["cdk", "deploy", names.stack_name(preset.name)]
        if preset_argument.endswith(".toml"):
            words += ["-c", f"preset={preset_argument}"]
        words += ["-c", f"package={uri}"]
        encryption = getattr(store, "encryption", None)
        key = encryption.kms_key_id if encryption else None
        if key and key.startswith("arn:"):
            words += ["-c", f"package_kms_key_arn={key}"]
        if profile := chosen_profile():
            words += ["--profile", profile]
        click.echo(f"deploy: {_region_of(store)}{shlex.join(words)}", err=True)


def print_difference(preset: Preset) -> None:
    """Say that a package was compiled for other values than those of a preset."""
    click.echo(
        f"the shapes, cores or model differ from those of {preset.name}: to deploy the package, make a "
        "preset of your own with the same values",
        err=True,
    )


def _region_of(store: Store) -> str:
    """Return a variable that makes ``cdk`` deploy in the store's region, if it would not by itself."""
    from inf2kit import aws

    region = getattr(store, "region", None)
    return f"AWS_REGION={region} " if region and region != aws.configured_region() else ""
