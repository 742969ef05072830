"""The options of commands that call an endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

import inf2kit
from inf2kit.cli.account import REGION_DEFAULT
from inf2kit.names import endpoint_or_preset

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PARAMETERS = [
    click.option("--max-new-tokens", type=int, help="The largest number of new tokens."),
    click.option("--min-new-tokens", type=int, help="The least number of new tokens."),
    click.option("--temperature", type=float, help="Above 0; higher values give more varied texts."),
    click.option("--top-k", type=int, help="Sample from this many of the most probable tokens."),
    click.option("--top-p", type=float, help="Sample from the tokens that make up this probability."),
    click.option(
        "--repetition-penalty", type=float, help="Above 1, tokens that occurred become less probable."
    ),
    click.option("--seed", type=int, help="The seed for sampling."),
    click.option("--stop", multiple=True, help="A text that ends the generation. Repeatable."),
]
_ADDRESS = [
    click.option("--endpoint-url", help="The address to call. Default: the local endpoint's, or AWS."),
    click.option(
        "--region",
        "region_name",
        help=f"The AWS region; a local endpoint is then not called. {REGION_DEFAULT}",
    ),
    click.option(
        "--profile", "profile_name", help="A profile of your AWS configuration; as --region, it means AWS."
    ),
]


def parameter_options(command: _Command) -> _Command:
    """Add the options of a generation."""
    return _add(command, _PARAMETERS)


def address_options(command: _Command) -> _Command:
    """Add the options that say where an endpoint is."""
    return _add(command, _ADDRESS)


def drop_unset(options: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the options that are set."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def connect(
    endpoint: str, endpoint_url: str | None, region_name: str | None, profile_name: str | None
) -> inf2kit.Endpoint:
    """Return the endpoint that the options name, also by its preset.

    Raises:
        EndpointError: there cannot be such an endpoint, or AWS cannot be called.
    """
    name = endpoint_or_preset(endpoint)
    return inf2kit.Endpoint(
        name, endpoint_url=endpoint_url, region_name=region_name, profile_name=profile_name
    )


def decode(text: str) -> str:
    """Return an argument as UTF-8 whatever the locale's encoding is.

    Raises:
        click.BadParameter: it is not UTF-8.
    """
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"it is not UTF-8 ({error.reason} at byte {error.start})") from None


def _add(command: _Command, options: Sequence[Callable[[Any], Any]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
