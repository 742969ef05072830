"""The command line. Every command ends with a sentence, never with a traceback."""

from __future__ import annotations

import sys
from typing import Any

import click

import inf2kit
from inf2kit.cli.cloud import cloud
from inf2kit.cli.compile import compile_
from inf2kit.cli.local import local
from inf2kit.cli.output import Group, steps
from inf2kit.cli.package import package
from inf2kit.cli.packages import packages
from inf2kit.cli.presets import presets
from inf2kit.cli.prices import prices
from inf2kit.cli.verify import verify_device


@click.group(cls=Group)
@click.version_option(inf2kit.__version__)
def main() -> None:
    """Llama text generation on AWS Inferentia2, rehearsed on this machine."""


for command in (presets, local, cloud, package, packages, prices, verify_device):
    main.add_command(command)
main.add_command(compile_, "compile")


@main.command()
@click.argument("endpoint")
@click.argument("prompt")
@click.option("--max-new-tokens", type=int)
@click.option("--min-new-tokens", type=int)
@click.option("--temperature", type=float)
@click.option("--top-k", type=int)
@click.option("--top-p", type=float)
@click.option("--repetition-penalty", type=float)
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, help="A text that ends the generation; repeatable.")
@click.option("--stream", is_flag=True, help="Show the text as it comes.")
@click.option("--endpoint-url", help="Where to call, instead of a local endpoint or AWS.")
@click.option("--region", "region_name")
def generate(
    endpoint: str,
    prompt: str,
    stream: bool,
    endpoint_url: str | None,
    region_name: str | None,
    **parameters: Any,
) -> None:
    """Continue PROMPT with ENDPOINT, a local one or one on AWS."""
    given = {key: value for key, value in parameters.items() if value not in (None, ())}
    target = inf2kit.Endpoint(endpoint, endpoint_url=endpoint_url, region_name=region_name)
    if stream:
        for piece in target.stream(prompt, **given):
            click.echo(piece, nl=False)
            sys.stdout.flush()
        click.echo()
        return
    result = target.generate(prompt, **given)
    click.echo(result.text)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


@main.command()
@click.option("--quick", is_flag=True, help="Without CDK: a local endpoint only.")
def demo(quick: bool) -> None:
    """Rehearse everything: a cloud, a package, cdk deploy, four ways to call it, cdk destroy."""
    from inf2kit.rehearsal import demo as demonstration

    (demonstration.quick if quick else demonstration.run)(steps())
