"""``inf2kit package``: make a model package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit.cli.output import step_printer
from inf2kit.cli.publishing import PLACE, encryption_options, handler_option, publish_contents, store_options
from inf2kit.errors import PackageError

if TYPE_CHECKING:
    from inf2kit.package.stores.encryption import Encryption

_EMBEDDED = "embedded"


@click.command(short_help="Make a model package of a folder of weights.")
@click.argument("source")
@click.option("--preset", required=True, help="The preset to package for: a name, or a .toml file.")
@click.option("--output", metavar=PLACE, required=True, help="The folder or prefix that holds packages.")
@click.option("--revision", help="The model's revision on its hub; the manifest records it.")
@click.option(
    "--rehearsal",
    is_flag=True,
    help="Package the embedded model on the CPU in place of a Neuron preset's model; every answer says so.",
)
@click.option(
    "--model-name",
    help="The name that the endpoint answers with; by default the folder's own.",
)
@handler_option
@click.option(
    "--dry-run", is_flag=True, help="Print what SOURCE is, what is wrong with it, and what would be sent."
)
@encryption_options
@store_options
def package(
    source: str,
    preset: str,
    output: str,
    revision: str | None,
    rehearsal: bool,
    model_name: str | None,
    handler: Path | None,
    dry_run: bool,
    region: str | None,
    bucket_owner: str | None,
    encryption: Encryption | None,
) -> None:
    """Make a model package of SOURCE, a folder of weights and tokenizer ('embedded': the embedded model).

    The package is one immutable folder, named by a digest of every byte in it:

    \b
        inf2kit package DIR --preset llama2-7b-latency --output s3://BUCKET/models

    'cdk deploy' takes the printed place. After an interruption, the same command continues where it stopped.
    'inf2kit packages' lists, verifies and prunes packages.
    """
    from inf2kit.checkpoint import name_of
    from inf2kit.package import open_store
    from inf2kit.package.stores.places import parse_place
    from inf2kit.rehearsal import model

    progress = step_printer()
    parse_place(output)
    loaded, store = inf2kit.load_preset(preset), open_store(output, region, bucket_owner, encryption)
    # Hashing takes minutes. A mistyped place must fail before it.
    store.check_writable()
    weights = model.prepare(progress) if source == _EMBEDDED else Path(source).expanduser()
    if "://" not in output and Path(output).resolve().is_relative_to(weights.resolve()):
        raise PackageError(
            f"{output} lies inside {weights}, and would be packaged too; choose another --output"
        )
    publish_contents(
        loaded,
        preset,
        weights,
        store,
        progress,
        revision=revision,
        rehearsal=rehearsal,
        handler=handler,
        model_name=model_name or (None if source == _EMBEDDED else name_of(weights)),
        dry_run=dry_run,
    )
