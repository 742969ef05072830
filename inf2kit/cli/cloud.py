"""``inf2kit cloud``: the rehearsal cloud, for cdk, boto3 and the aws command line."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from inf2kit import catalog
from inf2kit.cli import streams
from inf2kit.cli.extras import needs
from inf2kit.cli.group import CommandGroup
from inf2kit.cli.output import print_table, step_printer
from inf2kit.errors import CloudError
from inf2kit.names import endpoint_or_preset


@click.group(cls=CommandGroup, short_help="Run a rehearsal cloud for cdk, boto3 and aws.")
def cloud() -> None:
    """Run a rehearsal cloud on this machine, for cdk, boto3 and the aws command line."""


@cloud.command("up")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="The port of all services; 0 chooses a free one. Default: 4570.",
)
@click.option("--region", default="us-east-1", show_default=True, help="The region that has endpoints.")
@click.option(
    "--minute",
    "minute_s",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    help="Seconds that a minute of AWS's waits, cool-downs and alarm periods takes; 60 is real time.",
)
@click.option(
    "--undone",
    type=click.Choice(["accepted", "refused", "unnoticed"]),
    default="accepted",
    show_default=True,
    help=(
        "How CloudFormation treats an update that SageMaker has rolled back. AWS does not document it. "
        "accepted: the stack rolls back. refused: its rollback fails. unnoticed: the update succeeds."
    ),
)
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    metavar="INSTANCE=NUMBER",
    help="How many instances endpoints may have, the others 0, as in most new accounts. Repeatable. "
    "Default: no limit.",
)
@needs("local", "cloud")
def cloud_up(port: int | None, region: str, minute_s: float, undone: str, quotas: tuple[str, ...]) -> None:
    """Start the cloud, which is empty at first."""
    from inf2kit.rehearsal.cloud import lifecycle

    settings = lifecycle.up(
        port=lifecycle.DEFAULT_PORT if port is None else port,
        region=region,
        minute_s=minute_s,
        undone=undone,
        quotas=dict(map(_parse_quota, quotas)) or None,
        progress=step_printer(),
    )
    click.echo(f"the rehearsal cloud is up: {settings.url}")
    click.echo(
        "use it:  eval \"$(inf2kit cloud env)\" && cdk bootstrap --app '' aws://123456789012/" + region
    )
    click.echo("stop it: inf2kit cloud down")


def _parse_quota(text: str) -> tuple[str, int]:
    instance_type, _, number = text.partition("=")
    known = [name for name in catalog.instances() if name.startswith("ml.")]
    if instance_type not in known or not number.isdecimal():
        raise click.UsageError(
            f"--quota is {text!r}; it must be INSTANCE=NUMBER, such as {known[0]}=1; the instances are "
            f"{', '.join(known)}"
        )
    return instance_type, int(number)


@cloud.command("env")
@needs("local", "cloud")
def cloud_env() -> None:
    """Print the variables that direct cdk, aws and boto3 to the cloud.

    Use it in a shell: eval "$(inf2kit cloud env)"
    """
    from inf2kit.rehearsal.cloud import lifecycle

    for name, value in lifecycle.environment(lifecycle.running()).items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo(f"unset {' '.join(lifecycle.unset())}")
    if sys.stdout.isatty():
        click.echo('# in a shell: eval "$(inf2kit cloud env)"')


@cloud.command("status")
@needs("local", "cloud")
def cloud_status() -> None:
    """List the cloud's stacks and endpoints."""
    from inf2kit.rehearsal.cloud import lifecycle, status

    settings = lifecycle.running()
    click.echo(f"the rehearsal cloud is up: {settings.url}, in {settings.region}")
    rows = status.list_rows(settings)
    if len(rows) == 1:
        click.echo("it is empty; deploy something with cdk")
    else:
        print_table(rows)


@cloud.command("logs")
@click.argument("endpoint", required=False)
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines until Ctrl-C.")
@needs("local", "cloud")
def cloud_logs(endpoint: str | None, follow: bool) -> None:
    """Print the cloud's log, or the logs of ENDPOINT's containers.

    A container's log has the lines that CloudWatch would have.
    """
    from inf2kit.rehearsal.cloud import lifecycle

    settings = lifecycle.running()
    offsets: dict[Path, int] = {}
    while True:
        if endpoint is None:
            logs = [settings.log]
        else:
            logs = sorted((settings.folder / "instances" / endpoint_or_preset(endpoint)).glob("*.log"))
        if not logs:
            raise CloudError(f"no container of {endpoint!r} has a log; see 'inf2kit cloud status'")
        for log in logs:
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(offsets.get(log, 0))
                if log not in offsets and len(logs) > 1:
                    click.echo(f"== {log.stem}")
                click.echo(file.read(), nl=False)
                offsets[log] = file.tell()
        if not follow:
            return
        streams.wait(0.2)


@cloud.command("down")
@needs("local", "cloud")
def cloud_down() -> None:
    """Stop the cloud with all endpoints and processes, and delete everything in it."""
    from inf2kit.rehearsal.cloud import lifecycle

    settings = lifecycle.find()
    is_stopped = lifecycle.down()
    click.echo("the rehearsal cloud is stopped" if is_stopped else "there is no rehearsal cloud")
    if settings and os.environ.get("AWS_ENDPOINT_URL") == settings.url:
        names = (name for name in lifecycle.environment(settings) if name.startswith("AWS_"))
        click.echo(f"this shell still calls it; run: unset {' '.join(names)}", err=True)
