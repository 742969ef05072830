"""The types of options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from inf2kit.errors import suggest

# click's type is generic for type checkers only.
if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


#: More callers, or calls a second, than one machine can send.
_MOST = 10_000


class Numbers(_ParamType):
    """Numbers with commas between them, all above 0 and at most ``_MOST``."""

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
        if not numbers or not all(0 < number <= _MOST for number in numbers):
            kind = "whole numbers" if self._number is int else "numbers"
            self.fail(
                f"{value!r} must be {kind} above 0 and up to {_MOST:,}, with commas between, such as 1,2,4",
                param,
                ctx,
            )
        return tuple(dict.fromkeys(numbers))


class LengthsType(_ParamType):
    """Numbers of tokens: one, a range, or a mean and its deviation."""

    name = "TOKENS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return them as ``Lengths``."""
        from inf2kit.planning.lengths import Lengths

        try:
            return Lengths.parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Slo(_ParamType):
    """Limits in seconds by name, such as ``ttft=1,latency=30``.

    Args:
        names: What each name bounds.
    """

    name = "NAME=SECONDS,..."

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return them as a dictionary."""
        if not isinstance(value, str):
            return value
        limits = {}
        for part in filter(None, value.split(",")):
            name, _, number = (text.strip() for text in part.partition("="))
            if name not in self._names:
                known = ", ".join(f"{each} ({metric})" for each, metric in self._names.items())
                close = suggest(name, self._names) or ";"
                self.fail(f"there is no limit {name!r}{close} there is {known}", param, ctx)
            try:
                limits[name] = float(number)
            except ValueError:
                limits[name] = 0.0
            if not 0 < limits[name] < float("inf"):
                self.fail(
                    f"{part.strip()!r} is no number of seconds above 0; write ttft=1,latency=30", param, ctx
                )
        return limits
