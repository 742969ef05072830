"""``inf2kit compile``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit.cli import compile_jobs
from inf2kit.cli.output import step_printer
from inf2kit.cli.publishing import (
    PLACE,
    encryption_options,
    handler_option,
    print_difference,
    publish_contents,
    store_options,
)
from inf2kit.presets import Preset

if TYPE_CHECKING:
    from inf2kit.compile.spec import CompileSpec
    from inf2kit.package import Store
    from inf2kit.package.stores.encryption import Encryption
    from inf2kit.presets.schema import Compute


@click.command("compile", short_help="Compile a preset's model for Neuron, and package it.")
@click.argument("preset")
@click.option("--output", metavar=PLACE, required=True, help="The folder or prefix that holds packages.")
@click.option(
    "--model",
    metavar="ID|DIR",
    help="Another model of the same architecture: OWNER/NAME on the hub, or a folder.",
)
@click.option("--revision", help="A commit, branch or tag of the model on the hub.")
@click.option("--batch-size", type=click.IntRange(1, 256), help="Sequences that are decoded together.")
@click.option("--sequence-length", type=click.IntRange(2), help="Tokens of a sequence, prompt and new ones.")
@click.option(
    "--max-context-length",
    type=click.IntRange(1),
    help="Tokens of the longest prompt. Every prompt is padded to it: a smaller value is faster.",
)
@click.option("--tensor-parallel-size", type=int, help="NeuronCores that the weights are split over.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="The precision of weights and arithmetic.",
)
@click.option(
    "--on-device-sampling/--host-sampling",
    default=None,
    help="Choose tokens on the device: no seeds, penalties or minimum lengths, and a top_k of at most 256. "
    "Default: the preset's.",
)
@handler_option
@click.option("--push-to-hub", metavar="REPO", help="Also push the compiled graphs to the Hugging Face hub.")
@click.option("--public", is_flag=True, help="Let everybody read what --push-to-hub pushes.")
@click.option(
    "--job", "as_job", is_flag=True, help="Compile in a SageMaker Processing job; not proven on AWS."
)
@click.option("--follow", metavar="JOB", help="Start no job, but follow one that was started before.")
@click.option("--role", metavar="ARN", help="The job's execution role.")
@click.option("--token-secret", metavar="NAME", help="The secret in Secrets Manager with the hub's token.")
@click.option("--volume-kms-key", metavar="ARN", help="The key that encrypts the job's volume.")
@click.option("--subnet", "subnets", multiple=True, metavar="ID", help="A subnet for the job; repeatable.")
@click.option(
    "--security-group",
    "security_groups",
    multiple=True,
    metavar="ID",
    help="A security group of the subnets' VPC; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, or a job's request, and do nothing.")
@encryption_options
@store_options
def compile_(
    preset: str,
    output: str,
    model: str | None,
    revision: str | None,
    batch_size: int | None,
    sequence_length: int | None,
    max_context_length: int | None,
    tensor_parallel_size: int | None,
    dtype: str | None,
    on_device_sampling: bool | None,
    handler: Path | None,
    push_to_hub: str | None,
    public: bool,
    as_job: bool,
    follow: str | None,
    role: str | None,
    token_secret: str | None,
    volume_kms_key: str | None,
    subnets: tuple[str, ...],
    security_groups: tuple[str, ...],
    dry_run: bool,
    region: str | None,
    bucket_owner: str | None,
    encryption: Encryption | None,
) -> None:
    """Compile PRESET's model for Neuron with static shapes, and package it.

        inf2kit compile llama2-7b-budget --output s3://BUCKET/models

    The compiler must be installed, as it is in the endpoint's own image; no device is needed. It takes some
    minutes where the hub's cache has the graphs, and up to more than an hour where it has not. The compiled
    model is kept, and after an interruption the same command continues from there. For a preset of this
    machine's CPU the command makes the package without a compiler.
    """
    from inf2kit.checkpoint import name_of
    from inf2kit.compile import dry_run as dry_runs
    from inf2kit.compile import hub
    from inf2kit.compile.spec import CompileSpec
    from inf2kit.package import open_store
    from inf2kit.package.handler import check_handler
    from inf2kit.package.stores.places import parse_place

    parse_place(output)
    loaded = inf2kit.load_preset(preset)
    if handler is not None:
        check_handler(handler)
    if public and not push_to_hub:
        raise click.UsageError("--public needs --push-to-hub")
    reference = hub.ModelReference.parse(loaded.model.id if model is None else model, revision)
    model, revision = model and reference.model, reference.revision
    model_name = None if model is None else name_of(Path(model)) if Path(model).is_dir() else model
    if loaded.compute.backend != "neuron":
        if dry_run:
            lines = dry_runs.describe_cpu(loaded, model or loaded.model.id, revision, _note)
            click.echo("\n".join([*lines, f"package {model or loaded.model.id} to {output}"]))
            return
        store = open_store(output, region, bucket_owner, encryption)
        with _resumable():
            _package_for_cpu(loaded, preset, store, model, revision, handler, model_name)
        return
    spec = CompileSpec.from_preset(
        loaded,
        model=model,
        revision=revision,
        batch_size=batch_size,
        sequence_length=sequence_length,
        max_context_length=max_context_length,
        tensor_parallel_size=tensor_parallel_size,
        dtype=dtype,
        on_device_sampling=on_device_sampling,
    )
    for_jobs = {
        "--role": role,
        "--token-secret": token_secret,
        "--volume-kms-key": volume_kms_key,
        "--subnet": subnets,
        "--security-group": security_groups,
    }
    useless = [name for name, value in for_jobs.items() if value and not as_job]
    if useless:
        raise click.UsageError(f"{useless[0]} needs --job")
    if follow:
        compile_jobs.follow_job(
            follow, loaded, preset, open_store(output, region, bucket_owner), compile_jobs.find_region(region)
        )
        return
    if as_job:
        if not role:
            raise click.UsageError("--job needs --role")
        if push_to_hub:
            raise click.UsageError("a job pushes nothing to the hub; push from a machine that has compiled")
        job_plan = compile_jobs.plan_job(
            loaded,
            spec,
            output,
            role=role,
            region=compile_jobs.find_region(region),
            token_secret=token_secret,
            bucket_owner=bucket_owner,
            volume_kms_key=volume_kms_key,
            subnets=subnets,
            security_groups=security_groups,
            handler=handler,
            encryption=encryption,
        )
        if dry_run:
            compile_jobs.print_job(job_plan)
        else:
            store = open_store(output, job_plan.description.region, bucket_owner, encryption)
            compile_jobs.run_job(job_plan, preset, store)
        return
    if dry_run:
        _print_plan(spec, loaded.compute, output, push_to_hub, public=public)
        return
    store = open_store(output, region, bucket_owner, encryption)
    with _resumable():
        _compile_here(loaded, preset, spec, store, handler, model_name, push_to_hub, public=public)


def _compile_here(
    preset: Preset,
    preset_argument: str,
    spec: CompileSpec,
    store: Store,
    handler: Path | None,
    model_name: str | None,
    push_to_hub: str | None,
    *,
    public: bool,
) -> None:
    """Compile on this machine, publish the package, and push to the hub if that is asked for."""
    from inf2kit.compile import hub, local

    progress = step_printer()
    store.check_writable()
    if push_to_hub:
        hub.check_push(push_to_hub, public=public)
    compiled = local.execute(spec, progress, gated=preset.model.gated and spec.model == preset.model.id)
    compiled_preset = spec.apply_to(preset)
    publish_contents(
        compiled_preset,
        preset_argument,
        compiled.path,
        store,
        progress,
        revision=compiled.revision,
        handler=handler,
        model_name=model_name,
    )
    if compiled_preset != preset:
        print_difference(preset)
    if push_to_hub:
        progress(f"pushing to {push_to_hub}")
        click.echo(hub.push(compiled.path, push_to_hub, public=public))


def _note(line: str) -> None:
    click.echo(line, err=True)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """End with the status of Ctrl-C, and say that nothing is lost by it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped; the same command continues from here", err=True)
        raise SystemExit(130) from None


def _print_plan(
    spec: CompileSpec, compute: Compute, output: str, push_to_hub: str | None, *, public: bool
) -> None:
    """Print what a compilation on this machine would do; of the hub, only questions are asked."""
    from inf2kit.compile import dry_run, hub

    click.echo("\n".join(dry_run.describe(spec, compute, _note)))
    click.echo(f"package it to {output}")
    if push_to_hub:
        try:
            hub.check_push(push_to_hub, public=public)
        except hub.HubUnreachableError as reason:
            _note(f"{reason}: whether the push would be refused is not known")
        readers = "for everybody to read" if public else "private"
        click.echo(f"push graphs, configuration and tokenizer to {push_to_hub}, {readers}, no weights")


def _package_for_cpu(
    preset: Preset,
    preset_argument: str,
    store: Store,
    model: str | None,
    revision: str | None,
    handler: Path | None,
    model_name: str | None,
) -> None:
    """Package the model of a preset for the CPU, which needs no compilation."""
    from inf2kit.compile import hub
    from inf2kit.compile.hub import ModelFolder
    from inf2kit.rehearsal import model as embedded

    name = model or preset.model.id
    progress = step_printer()
    store.check_writable()
    if name == embedded.MODEL_ID:
        source = ModelFolder(embedded.prepare(progress), revision)
    else:
        source = hub.fetch(name, revision, progress)
    publish_contents(
        preset,
        preset_argument,
        source.path,
        store,
        progress,
        revision=source.revision,
        handler=handler,
        model_name=model_name,
    )
