"""``inf2kit presets``."""

from __future__ import annotations

import dataclasses

import click

import inf2kit
from inf2kit.cli.output import table


@click.group(invoke_without_command=True)
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
        table(rows)


@presets.command("show")
@click.argument("name")
@click.option("--instance-type", help="Another of the preset's instances.")
def show(name: str, instance_type: str | None) -> None:
    """Show one preset whole (NAME, or a .toml file)."""
    preset = inf2kit.load_preset(name)
    preset = preset.on(instance_type) if instance_type else preset
    click.echo(f"{preset.name}: {preset.description} ({preset.status})")
    for section in ("model", "shapes", "compute", "serving"):
        click.echo(f"\n[{section}]")
        for key, value in dataclasses.asdict(getattr(preset, section)).items():
            if value is not None:
                click.echo(f"{key} = {_toml(value)}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
