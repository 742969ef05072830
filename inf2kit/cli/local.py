"""``inf2kit local``: endpoints on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from inf2kit.cli import streams
from inf2kit.cli.extras import needs
from inf2kit.cli.group import CommandGroup
from inf2kit.cli.output import print_table, step_printer
from inf2kit.errors import LocalEndpointError
from inf2kit.names import endpoint_or_preset

#: Seconds between two looks at a log.
_FOLLOW_S = 0.2


@click.group(cls=CommandGroup, short_help="Run single endpoints, without the CDK.")
def local() -> None:
    """Run endpoints on this machine."""


@local.command("up")
@click.argument("preset")
@click.option("--name", help="The EndpointName. Default: the preset's own.")
@click.option(
    "--gateway/--no-gateway",
    default=True,
    help="Without the gateway the toolkit owns the port: no streaming.",
)
@click.option(
    "--env",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a variable of the container's environment; repeatable.",
)
@click.option(
    "--speed",
    metavar="published|FILE",
    help="Made-up tokens at the published times of the preset, or at those of a calibration.",
)
@click.option(
    "--handler",
    type=click.Path(path_type=Path),
    help="A Python file that replaces inf2kit's inference.py.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=600.0,
    show_default=True,
    help="Seconds to wait until the endpoint is in service.",
)
@needs("local")
def local_up(
    preset: str,
    name: str | None,
    gateway: bool,
    assignments: tuple[str, ...],
    speed: str | None,
    handler: Path | None,
    wait_s: float,
) -> None:
    """Start an endpoint from PRESET and wait until it is in service.

    PRESET is a name from 'inf2kit presets' or the path of a TOML file.
    """
    from inf2kit.rehearsal.local.start import start_endpoint

    began = time.monotonic()
    state = start_endpoint(
        preset,
        name=name,
        gateway=gateway,
        variables=dict(_parse_assignment(assignment) for assignment in assignments),
        speed=speed,
        handler=handler,
        wait_s=wait_s,
        progress=step_printer(),
    )
    click.echo(f"{state.name} is in service after {time.monotonic() - began:.0f} s; endpoint_url {state.url}")
    click.echo(f'try:  inf2kit generate {state.name} "My favorite place on earth is"')
    click.echo(f"stop: inf2kit local down {state.name}")


@local.command("status")
@needs("local")
def local_status() -> None:
    """List the endpoints on this machine."""
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    rows = [("ENDPOINT", "PRESET", "STATUS", "ENDPOINT_URL", "")]
    for endpoint in LocalEndpoint.list_all():
        try:
            if endpoint.read_state() is not None:
                state = endpoint.describe()
                rows.append((state.name, state.preset, state.status, state.url, state.reason))
        except LocalEndpointError as error:
            rows.append((endpoint.name, "-", "Unreadable", "-", str(error)))
    if len(rows) == 1:
        click.echo("no local endpoints; start one with 'inf2kit local up smollm2-135m-local'")
    else:
        print_table(rows)


@local.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines until Ctrl-C.")
@needs("local")
def local_logs(name: str, follow: bool) -> None:
    """Print the container's log of an endpoint, which is named by itself or by its preset.

    It has the lines that CloudWatch would have.
    """
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    path = LocalEndpoint(endpoint_or_preset(name)).find_log()
    with path.open(encoding="utf-8", errors="replace") as log:
        while True:
            is_gone = not path.exists()
            for line in log:
                click.echo(line, nl=False)
            if not follow:
                return
            if is_gone:
                click.echo(f"the endpoint {name!r} was stopped", err=True)
                return
            streams.wait(_FOLLOW_S)


@local.command("down")
@click.argument("name", required=False)
@click.option("--all", "stop_all", is_flag=True, help="Stop every local endpoint.")
@needs("local")
def local_down(name: str | None, stop_all: bool) -> None:
    """Stop an endpoint with all of its processes, and delete its folder.

    NAME is the endpoint's name, or that of its preset.
    """
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    if (name is None) is not stop_all:
        raise click.UsageError("give the name of an endpoint, or --all")
    errors = []
    endpoints = LocalEndpoint.list_all() if name is None else [LocalEndpoint(endpoint_or_preset(name))]
    if not endpoints:
        click.echo("no local endpoints")
    for endpoint in endpoints:
        try:
            is_stopped = endpoint.stop()
        except LocalEndpointError as error:  # the others are stopped all the same
            errors.append(str(error))
            continue
        click.echo(
            f"{endpoint.name} is stopped" if is_stopped else f"there is no local endpoint {endpoint.name!r}"
        )
    if errors:
        raise LocalEndpointError("; ".join(errors))


def _parse_assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--env takes NAME=VALUE, not {text!r}")
    return name, value
