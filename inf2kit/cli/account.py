"""The options of commands that call AWS: the region and the profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

#: What every command calls without ``--region``.
REGION_DEFAULT = "Default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's."
_PROFILE = f"{__name__}.profile"


def _use_profile(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    if name and not ctx.resilient_parsing:
        from inf2kit import aws

        ctx.meta[_PROFILE] = name
        ctx.with_resource(aws.default_profile(name))


profile_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--profile",
    callback=_use_profile,
    expose_value=False,
    help="A profile of your AWS configuration. Default: AWS_PROFILE.",
)


def chosen_profile() -> str | None:
    """Return the value of ``--profile`` of the running command."""
    context = click.get_current_context(silent=True)
    profile: str | None = context.meta.get(_PROFILE) if context else None
    return profile
