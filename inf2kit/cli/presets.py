"""``inf2kit presets``: list, show and check presets."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

import inf2kit
from inf2kit import catalog, toml
from inf2kit.catalog.prices import current as current_prices
from inf2kit.checkpoint import check_config
from inf2kit.cli.group import CommandGroup
from inf2kit.cli.output import print_table
from inf2kit.errors import CompileError, suggest
from inf2kit.fit import Architecture, check_context, check_cores, check_positions
from inf2kit.fit import published as published_memory
from inf2kit.fit.report import COLUMNS, Fit
from inf2kit.planning import published
from inf2kit.presets import Preset
from inf2kit.serving.shapes import StaticShapes


@click.group(cls=CommandGroup, invoke_without_command=True, short_help="List, show and check the presets.")
@click.pass_context
def presets(ctx: click.Context) -> None:
    """List the presets."""
    if ctx.invoked_subcommand is not None:
        return
    prices = current_prices()
    rows = [("PRESET", "MODEL", "HUB", "INSTANCE", "USD/H", "CORES", "ROWS")]
    by_status: dict[str, list[str]] = {}
    sources = set[str]()
    for name in inf2kit.preset_names():
        preset = inf2kit.load_preset(name)
        compute, shapes = preset.compute, preset.shapes
        cores = str(compute.tensor_parallel_size) if compute.backend == "neuron" else "-"
        if compute.data_parallel_size > 1:
            cores = f"{compute.data_parallel_size} x {cores}"
        price = prices.find(compute.instance_type, None)
        rows.append(
            (
                *(name, preset.model.id, "gated" if preset.model.gated else "open", compute.instance_type),
                *(f"{price.usd_per_hour:.2f}" if price else "-", cores),
                f"{shapes.batch_size} x {shapes.sequence_length}",
            )
        )
        if price:
            sources.add(f"{price.region}, {price.date}")
        by_status.setdefault(preset.status, []).append(name)
    print_table(rows, optional=("MODEL",))
    click.echo(f"\nprices: {'; '.join(sorted(sources))}")
    # The most frequent status would be a column of the same words.
    *others, most = sorted(by_status, key=lambda status: len(by_status[status]))
    for status in others:
        click.echo(f"{status}: {', '.join(by_status[status])}")
    click.echo(f"{most}: all {'others' if others else 'of them'}")
    if sys.stdout.isatty():
        click.echo("\nall values of one: inf2kit presets show PRESET")
        click.echo("rehearse one here: inf2kit local up PRESET")


@presets.command("show")
@click.argument("name")
@click.option("--instance-type", help="Another of the preset's instances.")
def show(name: str, instance_type: str | None) -> None:
    """Print all values of one preset. NAME is a preset's name or the path of a .toml file."""
    preset = inf2kit.load_preset(name)
    if instance_type:
        preset = preset.with_instance_type(instance_type)
    click.echo(f"{preset.name}: {preset.description} ({preset.status})")
    for line in (preset.note, _describe_published(preset)):
        if line:
            click.echo(f"  {line}")
    click.echo()
    tables = {name: value for name, value in preset.to_dict().items() if isinstance(value, dict)}
    click.echo(toml.dumps(tables), nl=False)


def _describe_published(preset: Preset) -> str:
    """Return which figures others have published of a preset's model and shapes; empty for none on a CPU."""
    compute, shapes = preset.compute, preset.shapes
    if compute.backend != "neuron":
        return ""
    shape = (compute.tensor_parallel_size, shapes.batch_size, shapes.sequence_length)
    for sampling in ("host", "device"):
        engine = published.find(preset.model.id, *shape, sampling)
        if engine is not None:
            where = f", tokens chosen on the {engine.sampling}" if engine.sampling else ""
            times = engine.times
            return (
                f"published, not of inf2kit: {1e3 * times.step_s:.3g} ms a step, {times.prefill_s[-1]:.3g} s "
                f"a prompt of {times.prefill_tokens[-1]} tokens{where} ({engine.model}, optimum-neuron "
                f"{engine.version}, {engine.date}; {engine.source})"
            )
    return "published: nothing of this model in these shapes"


@dataclass(frozen=True)
class _Options:
    """The options of ``presets check`` that a preset has values for; None means the preset's value."""

    instance_type: str | None
    batch_size: int | None
    sequence_length: int | None
    max_context_length: int | None
    tensor_parallel_size: int | None
    data_parallel_size: int | None
    dtype: str | None


@presets.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--model", help="A config.json, its folder, or a model's name on the hub, instead of a preset.")
@click.option("--instance-type", help="Another instance than the preset's.")
@click.option("--batch-size", type=click.IntRange(1, 4096), help="Number of rows decoded together.")
@click.option("--sequence-length", type=click.IntRange(2), help="Tokens in a row, prompt and new ones.")
@click.option(
    "--max-context-length", type=click.IntRange(1), help="The largest number of tokens in a prompt."
)
@click.option("--tensor-parallel-size", type=int, help="Number of NeuronCores to split the model over.")
@click.option(
    "--data-parallel-size", type=click.IntRange(1, 24), help="Number of engines with cores of their own."
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="Precision of weights and arithmetic.",
)
@click.option(
    "--published", is_flag=True, help="Print the estimate of engines whose memory others measured, beside it."
)
def check(
    names: tuple[str, ...],
    model: str | None,
    instance_type: str | None,
    batch_size: int | None,
    sequence_length: int | None,
    max_context_length: int | None,
    tensor_parallel_size: int | None,
    data_parallel_size: int | None,
    dtype: str | None,
    published: bool,
) -> None:
    """Check whether models fit their instances: weights, cache and host memory.

    Without a name, print a table of all presets for Neuron. With names, explain each figure. Figures are
    computed, not measured; allowances are named.

        inf2kit presets check llama2-7b-budget --instance-type ml.inf2.xlarge

        inf2kit presets check --model config.json --instance-type ml.inf2.24xlarge --batch-size 8
            --sequence-length 4096 --tensor-parallel-size 12
    """
    options = _Options(
        instance_type,
        batch_size,
        sequence_length,
        max_context_length,
        tensor_parallel_size,
        data_parallel_size,
        dtype,
    )
    if published:
        if model or names or any(value is not None for value in vars(options).values()):
            raise click.UsageError("--published takes neither a preset nor another option")
        print_table([published_memory.COLUMNS, *published_memory.compare()])
        measurements = published_memory.measurements()
        sources = [f"{each.source}, {each.date}: {each.measured}" for each in measurements]
        click.echo("published by " + "; ".join(dict.fromkeys(sources)))
        return
    if model and names:
        raise click.UsageError("give a preset or --model")
    if model:
        fits = [_fit_model(model, options)]
    else:
        chosen = [inf2kit.load_preset(name) for name in names or inf2kit.preset_names()]
        fits = [_fit_preset(preset, options) for preset in chosen if preset.compute.backend == "neuron"]
        for preset in chosen if names else ():
            if preset.compute.backend != "neuron":
                click.echo(
                    f"{preset.name}: runs on this machine's CPU, so there is no device that it must fit"
                )
    if model or names:
        click.echo("\n\n".join("\n".join(fit.explanation()) for fit in fits))
    else:
        print_table([COLUMNS, *[fit.table_row() for fit in fits]])


def _fit_preset(preset: Preset, options: _Options) -> Fit:
    compute = preset.compute
    shapes = preset.shapes.with_changes(
        options.batch_size, options.sequence_length, options.max_context_length
    )
    check_context(options.max_context_length, shapes.sequence_length)
    return _fit(
        preset.name,
        preset.model.id,
        options.instance_type or compute.instance_type,
        shapes,
        compute.tensor_parallel_size
        if options.tensor_parallel_size is None
        else options.tensor_parallel_size,
        options.dtype or compute.dtype,
        options.data_parallel_size or compute.data_parallel_size,
    )


def _fit_model(model: str, options: _Options) -> Fit:
    instance_type, batch_size = options.instance_type, options.batch_size
    sequence_length, cores = options.sequence_length, options.tensor_parallel_size
    if instance_type is None or batch_size is None or sequence_length is None or cores is None:
        required = ("instance_type", "batch_size", "sequence_length", "tensor_parallel_size")
        missing = [name for name in required if getattr(options, name) is None]
        raise click.UsageError(
            f"--model needs {', '.join('--' + name.replace('_', '-') for name in missing)} too"
        )
    check_context(options.max_context_length, sequence_length)
    shapes = StaticShapes.resolve(batch_size, sequence_length, options.max_context_length)
    return _fit(
        model,
        model,
        instance_type,
        shapes,
        cores,
        options.dtype or "float16",
        options.data_parallel_size or 1,
    )


def _fit(
    name: str, model: str, instance_type: str, shapes: StaticShapes, cores: int, dtype: str, engines: int
) -> Fit:
    choices = [known for known, instance in catalog.instances().items() if instance.cores]
    if instance_type not in choices:
        close = suggest(instance_type, choices) or ";"
        raise CompileError(
            f"there is no instance {instance_type!r} with NeuronCores{close} choose one of "
            f"{', '.join(choices)}"
        )
    architecture = _find_architecture(model)
    check_cores(architecture, cores)
    check_positions(architecture, shapes.sequence_length, model)
    return Fit(name, architecture, shapes, cores, dtype, instance_type, engines)


def _find_architecture(model: str) -> Architecture:
    """Look up a model: on this machine, among those of the presets, or on the hub."""
    if model in catalog.models() or Path(model).exists() or Path(model).suffix == ".json":
        return Architecture.find(model)
    from inf2kit.compile import hub

    reference = hub.ModelReference.parse(model)
    remote = hub.find(reference.model, reference.revision)
    config = hub.read_config(remote, keep=False)
    return Architecture.from_config(check_config(config, remote.where), remote.where)
