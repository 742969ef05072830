"""``inf2kit presets``."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

import inf2kit
from inf2kit import catalog
from inf2kit.cli.output import table
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture, check_cores, check_positions
from inf2kit.fit.report import Fit
from inf2kit.presets import Preset
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire.parameters import nearest


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
    sections = ("model", "shapes", "compute", "serving", *(["compile"] if preset.compile else []))
    for section in sections:
        click.echo(f"\n[{section}]")
        for key, value in dataclasses.asdict(getattr(preset, section)).items():
            if value is not None:
                click.echo(f"{key} = {_toml(value)}")


@presets.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--model", help="A config.json or its folder, or a model's name, instead of a preset.")
@click.option("--instance-type", help="Another instance than the preset's.")
@click.option("--batch-size", type=click.IntRange(1, 4096), help="Rows decoded together.")
@click.option("--sequence-length", type=click.IntRange(2), help="Tokens of a row.")
@click.option("--max-context-length", type=click.IntRange(1), help="Tokens of a prompt.")
@click.option("--tensor-parallel-size", type=int, help="NeuronCores.")
@click.option(
    "--dtype", type=click.Choice(["float16", "bfloat16", "float32"]), help="Of weights and arithmetic."
)
def check(names: tuple[str, ...], model: str | None, instance_type: str | None, **shapes: Any) -> None:
    """Whether models fit their instances: weights, cache and host memory, per core and in all.

    Without a name, a table of all presets for Neuron; with one, all of it explained. Figures are computed,
    not measured; allowances are named.

        inf2kit presets check llama2-7b-budget --instance-type ml.inf2.xlarge

        inf2kit presets check --model config.json --instance-type ml.inf2.24xlarge --batch-size 8
            --sequence-length 4096 --tensor-parallel-size 12
    """
    if model and names:
        raise click.UsageError("give a preset or --model")
    if model:
        fits = [_fit_of_model(model, instance_type, **shapes)]
    else:
        chosen = [inf2kit.load_preset(name) for name in names or inf2kit.preset_names()]
        local = [preset for preset in chosen if preset.compute.backend != "neuron"]
        fits = [_fit_of(preset, instance_type, **shapes) for preset in chosen if preset not in local]
        for preset in local if names else ():
            click.echo(f"{preset.name}: runs on this machine's CPU, so there is no device that it must fit")
    if model or names:
        click.echo("\n\n".join("\n".join(fit.lines()) for fit in fits))
    else:
        table([Fit.HEADER, *[fit.row() for fit in fits]])


def _fit_of(preset: Preset, instance_type: str | None, **given: Any) -> Fit:
    shapes, compute = preset.shapes, preset.compute
    values: dict[str, Any] = {
        "batch_size": shapes.batch_size,
        "sequence_length": shapes.sequence_length,
        "max_context_length": shapes.max_context_length,
        "tensor_parallel_size": compute.tensor_parallel_size,
        "dtype": compute.dtype,
    }
    values |= {name: value for name, value in given.items() if value is not None}
    return _fit(preset.name, preset.model.id, instance_type or compute.instance_type, **values)


def _fit_of_model(model: str, instance_type: str | None, **given: Any) -> Fit:
    missing = [
        name for name in ("batch_size", "sequence_length", "tensor_parallel_size") if given[name] is None
    ]
    if missing or instance_type is None:
        names = ["instance_type", *missing] if instance_type is None else missing
        options = ", ".join("--" + name.replace("_", "-") for name in names)
        raise click.UsageError(f"--model needs {options} too")
    return _fit(model, model, instance_type, **{**given, "dtype": given["dtype"] or "float16"})


def _fit(
    name: str,
    model: str,
    instance_type: str,
    *,
    batch_size: int,
    sequence_length: int,
    max_context_length: int | None,
    tensor_parallel_size: int,
    dtype: str,
) -> Fit:
    choices = [known for known, instance in catalog.instances().items() if instance.cores]
    if instance_type not in choices:
        close = nearest([instance_type], *choices) or ";"
        raise CompileError(
            f"there is no instance {instance_type!r} with NeuronCores here{close} there are "
            f"{', '.join(choices)}"
        )
    architecture = Architecture.find(model)
    check_cores(architecture, tensor_parallel_size)
    check_positions(architecture, sequence_length, model)
    static = StaticShapes.resolve(batch_size, sequence_length, max_context_length)
    return Fit(name, architecture, static, tensor_parallel_size, dtype, instance_type)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
