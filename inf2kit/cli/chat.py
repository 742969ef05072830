"""``inf2kit chat``: a conversation with an endpoint."""

from __future__ import annotations

import sys
from typing import Any

import click

import inf2kit
from inf2kit.cli.calling import address_options, connect, decode, drop_unset, parameter_options
from inf2kit.cli.signals import Interrupts


@click.command(short_help="Talk to an endpoint, turn by turn.")
@click.argument("endpoint")
@click.option("--system", help="What the model is told before the conversation.")
@parameter_options
@address_options
def chat(
    endpoint: str,
    system: str | None,
    endpoint_url: str | None,
    region_name: str | None,
    profile_name: str | None,
    **options: Any,
) -> None:
    """Talk to ENDPOINT, which is local or on AWS.

    Each line is a turn. Ctrl-C stops an answer, and the conversation goes on; Ctrl-D ends it.
    """
    client = connect(endpoint, endpoint_url, region_name, profile_name)
    messages: list[dict[str, str]] = []
    warned: set[str] = set()
    if system:
        messages.append({"role": "system", "content": decode(system)})
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    if is_terminal:
        click.echo(f"{client.name}: Ctrl-C stops an answer, Ctrl-D ends the conversation", err=True)
    while (line := _read_line(is_terminal)) is not None:
        if not line.strip():
            continue
        messages.append({"role": "user", "content": line})
        try:
            answer = _answer(client, messages, drop_unset(options), warned)
        except inf2kit.EndpointError as error:
            if not is_terminal:
                raise
            # The turn was not answered, so it can be sent again.
            messages.pop()
            click.echo(f"Error: {error}", err=True)
        else:
            messages.append({"role": "assistant", "content": answer})


def _read_line(is_terminal: bool) -> str | None:
    """Return the next turn; None at the end of the conversation."""
    while True:
        try:
            if is_terminal:
                return input("> ")
            line = sys.stdin.readline() if sys.stdin is not None else ""
            return line.rstrip("\n") if line else None
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            click.echo("\nCtrl-D ends the conversation.", err=True)
        except EOFError:
            click.echo()
            return None


def _answer(
    client: inf2kit.Endpoint,
    messages: list[dict[str, str]],
    parameters: dict[str, Any],
    warned: set[str],
) -> str:
    """Print an answer as it comes, and each warning once; return as much of it as came before Ctrl-C."""
    with Interrupts() as interrupts, client.chat(messages, stream=True, **parameters) as stream:
        try:
            for piece in stream:
                with interrupts.held():
                    click.echo(piece, nl=False)
                    sys.stdout.flush()
            click.echo()
            for warning in stream.result.warnings:
                if warning not in warned:
                    warned.add(warning)
                    click.echo(f"warning: {warning}", err=True)
        except KeyboardInterrupt:
            click.echo("\n(stopped)")
        return stream.text
