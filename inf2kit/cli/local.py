"""``inf2kit local``: endpoints on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from inf2kit.cli.output import steps, table


@click.group()
def local() -> None:
    """Endpoints on this machine."""


@local.command("up")
@click.argument("preset")
@click.option("--name", help="The EndpointName; the preset's own by default.")
@click.option(
    "--gateway/--no-gateway", default=True, help="Without it the toolkit runs as it is: no streaming."
)
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="For the container; repeatable."
)
@click.option(
    "--handler",
    type=click.Path(path_type=Path),
    help="A Python file that takes the place of inf2kit's inference.py.",
)
@click.option("--wait", "wait_s", type=float, default=600.0, show_default=True, help="Seconds to wait.")
def local_up(
    preset: str,
    name: str | None,
    gateway: bool,
    variables: tuple[str, ...],
    handler: Path | None,
    wait_s: float,
) -> None:
    """Start an endpoint from PRESET and wait until it is in service."""
    from inf2kit.rehearsal.local import endpoint

    began = time.monotonic()
    given = dict(_variable(variable) for variable in variables)
    state = endpoint.up(
        preset,
        name=name,
        gateway=gateway,
        variables=given,
        handler=handler,
        wait_s=wait_s,
        progress=steps(),
    )
    click.echo(f"{state.name} is in service after {time.monotonic() - began:.0f} s; endpoint_url {state.url}")
    click.echo(f'try:  inf2kit generate {state.name} "My favorite place on earth is"')
    click.echo(f"stop: inf2kit local down {state.name}")


@local.command("status")
def local_status() -> None:
    """List the endpoints on this machine."""
    from inf2kit.rehearsal.local import endpoint

    rows = [("ENDPOINT", "PRESET", "STATUS", "ENDPOINT_URL", "")]
    rows += [
        (state.name, state.preset, state.status, state.url, state.reason)
        for state in endpoint.all_endpoints()
    ]
    if len(rows) == 1:
        click.echo("no local endpoints; start one with 'inf2kit local up smollm2-135m-local'")
    else:
        table(rows)


@local.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
def local_logs(name: str, follow: bool) -> None:
    """Print an endpoint's log: what CloudWatch would hold."""
    from inf2kit.rehearsal.local import endpoint

    with endpoint.log_path(name).open(encoding="utf-8", errors="replace") as log:
        while True:
            for line in log:
                click.echo(line, nl=False)
            if not follow:
                return
            time.sleep(0.2)


@local.command("down")
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every local endpoint.")
def local_down(name: str | None, every: bool) -> None:
    """Stop an endpoint and every process of it."""
    from inf2kit.rehearsal.local import endpoint, state

    if (name is None) is not every:
        raise click.UsageError("give the name of an endpoint, or --all")
    for each in state.names() if every else [str(name)]:
        stopped = endpoint.down(each)
        click.echo(f"{each} is stopped" if stopped else f"there is no local endpoint {each!r}")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--env takes NAME=VALUE, not {text!r}")
    return name, value
