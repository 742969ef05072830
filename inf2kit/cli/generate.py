"""``inf2kit generate``: call an endpoint."""

from __future__ import annotations

import sys
from typing import Any

import click

from inf2kit.cli.calling import address_options, connect, decode, drop_unset, parameter_options


@click.command(short_help="Continue a prompt.")
@click.argument("endpoint")
@click.argument("prompt")
@parameter_options
@click.option("--stream", is_flag=True, help="Print the text piece by piece, as it comes.")
@address_options
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
    prompt = decode(prompt)
    client = connect(endpoint, endpoint_url, region_name, profile_name)
    if stream:
        with client.stream(prompt, **drop_unset(options)) as text_stream:
            for piece in text_stream:
                click.echo(piece, nl=False)
                sys.stdout.flush()
        click.echo()
        result = text_stream.result
    else:
        # An answer that would take longer than SageMaker allows is streamed.
        result = client.generate(prompt, long="stream", **drop_unset(options))
        click.echo(result.text)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
