"""``inf2kit generate``: call an endpoint."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

import inf2kit
from inf2kit.cli.account import REGION_DEFAULT


@click.command()
@click.argument("endpoint")
@click.argument("prompt")
@click.option("--max-new-tokens", type=int, help="The largest number of new tokens.")
@click.option("--min-new-tokens", type=int, help="The least number of new tokens.")
@click.option("--temperature", type=float, help="Above 0; higher values give more varied texts.")
@click.option("--top-k", type=int, help="Sample from this many of the most probable tokens.")
@click.option("--top-p", type=float, help="Sample from the tokens that make up this probability.")
@click.option("--repetition-penalty", type=float, help="Above 1, tokens that occurred become less probable.")
@click.option("--seed", type=int, help="The seed for sampling.")
@click.option("--stop", multiple=True, help="A text that ends the generation. Repeatable.")
@click.option("--stream", is_flag=True, help="Print the text piece by piece, as it comes.")
@click.option("--endpoint-url", help="The address to call. Default: the local endpoint's, or AWS.")
@click.option(
    "--region", "region_name", help=f"The AWS region; a local endpoint is then not called. {REGION_DEFAULT}"
)
@click.option(
    "--profile", "profile_name", help="A profile of your AWS configuration; as --region, it means AWS."
)
def generate(
    endpoint: str,
    prompt: str,
    stream: bool,
    endpoint_url: str | None,
    region_name: str | None,
    profile_name: str | None,
    **options: Any,
) -> None:
    """Continue PROMPT with ENDPOINT, which is local or on AWS."""
    prompt = _decode(prompt)
    parameters = {name: value for name, value in options.items() if value not in (None, ())}
    client = inf2kit.Endpoint(
        endpoint, endpoint_url=endpoint_url, region_name=region_name, profile_name=profile_name
    )
    if stream:
        for piece in client.stream(prompt, **parameters):
            click.echo(piece, nl=False)
            sys.stdout.flush()
        click.echo()
        return
    result = client.generate(prompt, **parameters)
    click.echo(result.text)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


def _decode(text: str) -> str:
    """Return an argument as UTF-8 whatever the locale's encoding is.

    Raises:
        click.BadParameter: it is not UTF-8.
    """
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"it is not UTF-8 ({error.reason} at byte {error.start})") from None
