"""The types of options that the benchmarks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

# click's type is generic for type checkers only.
if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class Numbers(_ParamType):
    """Numbers with commas between them, all above 0."""

    name = "numbers"

    def __init__(self, number: type) -> None:
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return them as a tuple."""
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(self._number(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < 1e6 for number in numbers):
            kind = "whole numbers" if self._number is int else "numbers"
            self.fail(f"{value!r} must be {kind} above 0 with commas between them, such as 1,2,4", param, ctx)
        return tuple(dict.fromkeys(numbers))


class LengthsType(_ParamType):
    """A number of tokens, or a range of them."""

    name = "N|LOW-HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return them."""
        from inf2kit.bench.load.plan import Lengths

        try:
            return Lengths.parse(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(
                f"{value!r} must be a number of tokens such as 256, or a range such as 64-512", param, ctx
            )


class Slo(_ParamType):
    """Limits in seconds by name."""

    name = "NAME=SECONDS,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return them as a dictionary."""
        if not isinstance(value, str):
            return value
        from inf2kit.bench.load.metrics import SLO_METRICS

        limits = {}
        for part in value.split(","):
            name, _, seconds = part.partition("=")
            try:
                limits[name.strip()] = float(seconds)
            except ValueError:
                limits = {}
                break
        if (
            not limits
            or not set(limits) <= set(SLO_METRICS)
            or not all(limit > 0 for limit in limits.values())
        ):
            known = ", ".join(f"{name} ({tag})" for name, tag in SLO_METRICS.items())
            self.fail(
                f"{value!r} must be seconds by name, such as ttft=1,latency=30; there is {known}", param, ctx
            )
        return limits
