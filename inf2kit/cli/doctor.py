"""``inf2kit doctor``: what is in the way of a rehearsal or a deployment."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit.cli.account import REGION_DEFAULT, profile_option
from inf2kit.cli.output import terminal_width, wrap

if TYPE_CHECKING:
    from inf2kit.doctor import Finding, Report

_COLOURS = {"[ok]": "green", "[!]": "yellow", "[x]": "red"}
_MARK, _HINT, _RUN = 5, " " * 7 + "hint: ", " " * 7 + "run:  "
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
#: Names of running checks beside the spinner, so that its line fits a terminal.
_SHOWN = 4


@click.command(short_help="Check this machine, your AWS account and the hub.")
@click.argument("preset", required=False)
@click.option("--region", help=f"The region to deploy to. {REGION_DEFAULT}")
@click.option("--offline", is_flag=True, help="Ask neither AWS nor the Hugging Face hub.")
@click.option("--packages", metavar="s3://BUCKET/PREFIX", help="Where packages are or will be.")
@click.option("--role", metavar="ARN", help="An execution role of your own to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@profile_option
def doctor(
    preset: str | None,
    region: str | None,
    offline: bool,
    packages: str | None,
    role: str | None,
    as_json: bool,
) -> int:
    """Check this machine, your AWS account and the hub before money is spent.

    PRESET is a name from 'inf2kit presets' or the path of a TOML file: then the checks are about its
    instance, its region and its model. Nothing is changed anywhere.

    The exit status is 1 if a line has [x], and 0 otherwise.
    """
    from inf2kit import aws
    from inf2kit.doctor import Status, Surroundings, examine

    if region:
        aws.check_region(region)
    surroundings = Surroundings(
        preset=inf2kit.load_preset(preset) if preset else None,
        preset_argument=preset or "",
        region=region,
        offline=offline,
        packages=packages,
        role=role,
    )
    with _spinner() as progress:
        report = examine(surroundings, progress)
    if as_json:
        click.echo(json.dumps({"inf2kit": inf2kit.__version__, **report.to_dict()}, indent=2))
    else:
        _print(report)
    return int(report.worst is Status.PROBLEM)


def _print(report: Report) -> None:
    from inf2kit.doctor import Status

    # click leaves colours out where the output is no terminal.
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(f"inf2kit {inf2kit.__version__}: {report.subject}")
    for group, findings in itertools.groupby(report.findings, key=lambda finding: finding.group):
        click.echo(f"\n{group}")
        for line in _merge_not_checked(list(findings)):
            mark = line.status.mark
            text = wrap(f"{mark.ljust(_MARK)}{line.check}: {line.reason}", _MARK)
            click.echo(text.replace(mark, click.style(mark, fg=_COLOURS[mark]), 1), color=colour)
            if line.hint:
                click.echo(wrap(f"{_HINT}{line.hint}", len(_HINT)))
            if line.command:
                click.echo(f"{_RUN}{line.command}")  # never broken: it is for copying
    problems, advice = report.count(Status.PROBLEM), report.count(Status.ADVICE)
    not_checked = report.count(Status.NOT_CHECKED)
    click.echo(f"\n{problems} in the way, {advice} worth a look, {not_checked} not checked")
    click.echo(f"next: {report.next_step}")


def _merge_not_checked(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings, with one line for all checks that could not be made for the same reason."""
    from dataclasses import replace

    from inf2kit.doctor import Status

    merged = set()
    for finding in findings:
        if finding.status is not Status.NOT_CHECKED:
            yield finding
            continue
        key = (finding.reason, finding.command)
        if key not in merged:
            merged.add(key)
            names = [
                other.check
                for other in findings
                if other.status is Status.NOT_CHECKED and (other.reason, other.command) == key
            ]
            yield replace(finding, check=", ".join(names), reason=f"not checked: {finding.reason}")


@contextmanager
def _spinner() -> Iterator[Callable[[list[str]], None]]:
    """Show on a terminal which checks are still running; the line is erased at the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    frames = itertools.cycle(_FRAMES)

    def show(running: list[str]) -> None:
        names = ", ".join(running[:_SHOWN]) + (", ..." if len(running) > _SHOWN else "")
        line = f"{next(frames)} checking {names}"[: (terminal_width(sys.stderr) or len(names)) - 1]
        click.echo(f"\r\033[K{line}", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\033[K", nl=False, err=True)
