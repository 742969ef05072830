"""The command line. Every command ends with a sentence, never with a traceback."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

import inf2kit
from inf2kit.errors import Inf2KitError


class _Group(click.Group):
    """A group whose commands end with one sentence on an error of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Inf2KitError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
@click.version_option(inf2kit.__version__)
def main() -> None:
    """Llama text generation on AWS Inferentia2, rehearsed on this machine."""


@main.group(invoke_without_command=True)
@click.pass_context
def presets(ctx: click.Context) -> None:
    """List the presets."""
    if ctx.invoked_subcommand is None:
        rows = [("PRESET", "MODEL", "INSTANCE", "CORES", "BATCH", "SEQUENCE", "DTYPE", "STATUS")]
        for name in inf2kit.preset_names():
            preset = inf2kit.load_preset(name)
            compute, shapes = preset.compute, preset.shapes
            cores = str(compute.tensor_parallel_size) if compute.backend == "neuron" else "-"
            shape = (str(shapes.batch_size), str(shapes.sequence_length))
            rows.append(
                (name, preset.model.id, compute.instance_type, cores, *shape, compute.dtype, preset.status)
            )
        _table(rows)


@presets.command("show")
@click.argument("name")
@click.option("--instance-type", help="Another of the preset's instances.")
def presets_show(name: str, instance_type: str | None) -> None:
    """Show one preset whole (NAME, or a .toml file)."""
    preset = inf2kit.load_preset(name)
    preset = preset.on(instance_type) if instance_type else preset
    click.echo(f"{preset.name}: {preset.description} ({preset.status})")
    for table in ("model", "shapes", "compute", "serving"):
        click.echo(f"\n[{table}]")
        for key, value in dataclasses.asdict(getattr(preset, table)).items():
            if value is not None:
                click.echo(f"{key} = {_toml(value)}")


@main.group()
def local() -> None:
    """Endpoints on this machine."""


@local.command("up")
@click.argument("preset")
@click.option("--name", help="The EndpointName; the preset's own by default.")
@click.option("--gate/--no-gate", default=True, help="Without it the toolkit runs as it is: no streaming.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="For the container; repeatable."
)
@click.option("--wait", "wait_s", type=float, default=600.0, show_default=True, help="Seconds to wait.")
def local_up(preset: str, name: str | None, gate: bool, variables: tuple[str, ...], wait_s: float) -> None:
    """Start an endpoint from PRESET and wait until it is in service."""
    from inf2kit.local import endpoint

    began = time.monotonic()
    given = dict(_variable(variable) for variable in variables)
    state = endpoint.up(preset, name=name, gate=gate, variables=given, wait_s=wait_s, progress=steps())
    click.echo(f"{state.name} is in service after {time.monotonic() - began:.0f} s; endpoint_url {state.url}")
    click.echo(f'try:  inf2kit generate {state.name} "My favorite place on earth is"')
    click.echo(f"stop: inf2kit local down {state.name}")


@local.command("status")
def local_status() -> None:
    """List the endpoints on this machine."""
    from inf2kit.local import endpoint

    rows = [("ENDPOINT", "PRESET", "STATUS", "ENDPOINT_URL", "")]
    rows += [
        (state.name, state.preset, state.status, state.url, state.reason)
        for state in endpoint.all_endpoints()
    ]
    if len(rows) == 1:
        click.echo("no local endpoints; start one with 'inf2kit local up smollm2-135m-local'")
    else:
        _table(rows)


@local.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
def local_logs(name: str, follow: bool) -> None:
    """Print an endpoint's log: what CloudWatch would hold."""
    from inf2kit.local import endpoint

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
    from inf2kit.local import endpoint, state

    if (name is None) is not every:
        raise click.UsageError("give the name of an endpoint, or --all")
    for each in state.names() if every else [str(name)]:
        stopped = endpoint.down(each)
        click.echo(f"{each} is stopped" if stopped else f"there is no local endpoint {each!r}")


@main.command()
@click.argument("endpoint")
@click.argument("prompt")
@click.option("--max-new-tokens", type=int)
@click.option("--min-new-tokens", type=int)
@click.option("--temperature", type=float)
@click.option("--top-k", type=int)
@click.option("--top-p", type=float)
@click.option("--repetition-penalty", type=float)
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, help="A text that ends the generation; repeatable.")
@click.option("--stream", is_flag=True, help="Show the text as it comes.")
@click.option("--endpoint-url", help="Where to call, instead of a local endpoint or AWS.")
@click.option("--region", "region_name")
def generate(
    endpoint: str,
    prompt: str,
    stream: bool,
    endpoint_url: str | None,
    region_name: str | None,
    **parameters: Any,
) -> None:
    """Continue PROMPT with ENDPOINT, a local one or one on AWS."""
    given = {key: value for key, value in parameters.items() if value not in (None, ())}
    target = inf2kit.Endpoint(endpoint, endpoint_url=endpoint_url, region_name=region_name)
    if stream:
        for piece in target.stream(prompt, **given):
            click.echo(piece, nl=False)
            sys.stdout.flush()
        click.echo()
        return
    result = target.generate(prompt, **given)
    click.echo(result.text)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


@main.command()
def demo() -> None:
    """Start a local endpoint, call it in four ways, and stop it again."""
    from inf2kit.demo import run

    run(steps())


def steps() -> Callable[[str], None]:
    """A progress function that prints each step with the seconds since the first."""
    began = time.monotonic()

    def step(phrase: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {phrase}", err=True)

    return step


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--env takes NAME=VALUE, not {text!r}")
    return name, value


if __name__ == "__main__":
    main()
