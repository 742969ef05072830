"""``inf2kit compile``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit.cli.output import steps
from inf2kit.cli.package import publish_contents
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.presets import Preset

if TYPE_CHECKING:
    from inf2kit.compile.job import Job


@click.command()
@click.argument("preset")
@click.option("--output", metavar="DIR|s3://BUCKET/PREFIX", required=True, help="Where the package goes.")
@click.option(
    "--model", metavar="ID|PATH", help="Another model of the same architecture: on the hub, or a folder."
)
@click.option("--revision", help="A commit, branch or tag of the model on the hub.")
@click.option("--batch-size", type=click.IntRange(1, 256), help="Rows decoded together.")
@click.option("--sequence-length", type=click.IntRange(2), help="Tokens of a row, prompt and new ones.")
@click.option(
    "--max-context-length",
    type=click.IntRange(1),
    help="Tokens of a prompt. The first token always waits for so many: fewer are faster.",
)
@click.option("--tensor-parallel-size", type=int, help="NeuronCores that the weights are split over.")
@click.option("--dtype", type=click.Choice(["float16", "bfloat16", "float32"]))
@click.option(
    "--on-device-sampling",
    is_flag=True,
    help="Choose tokens on the device: no seeds, penalties or minimum lengths, and a top_k of at most 256.",
)
@click.option("--push-to-hub", metavar="REPO", help="Put the compiled graphs on the Hugging Face hub too.")
@click.option("--public", is_flag=True, help="Let everybody read what --push-to-hub puts there.")
@click.option(
    "--job", "as_job", is_flag=True, help="Let a SageMaker Processing job compile; not proven on AWS."
)
@click.option("--role", metavar="ARN", help="The job's execution role.")
@click.option("--token-secret", metavar="NAME", help="The hub's token in Secrets Manager, for the job.")
@click.option("--volume-kms-key", metavar="ARN", help="Encrypts the job's volume.")
@click.option("--subnet", "subnets", multiple=True, metavar="ID", help="In the job's VPC; may be repeated.")
@click.option(
    "--security-group", "security_groups", multiple=True, metavar="ID", help="In that VPC; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; of a job, its request.")
@click.option("--region", help="The region that deploys; boto3's own by default.")
@click.option("--bucket-owner", metavar="ACCOUNT", help="Whose the bucket is; the caller's by default.")
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
    on_device_sampling: bool,
    push_to_hub: str | None,
    public: bool,
    as_job: bool,
    role: str | None,
    token_secret: str | None,
    volume_kms_key: str | None,
    subnets: tuple[str, ...],
    security_groups: tuple[str, ...],
    dry_run: bool,
    region: str | None,
    bucket_owner: str | None,
) -> None:
    """Compile PRESET's model for Neuron with static shapes, and package it.

        inf2kit compile llama2-7b-budget --output s3://BUCKET/models

    Needs the compiler, which the endpoint's own image has; no device. Takes minutes where the hub's cache has
    the graphs and up to more than an hour where it has not; what is compiled is kept, and the same command
    goes on from there. For a preset of this machine's CPU it prepares the package without a compiler.
    """
    from inf2kit.compile import hub, job, local
    from inf2kit.package import at

    chosen = inf2kit.load_preset(preset)
    if chosen.compute.backend != "neuron":
        _prepare(chosen, preset, output, model, revision, dry_run, region, bucket_owner)
        return
    spec = CompileSpec.of(
        chosen,
        model=model,
        revision=revision,
        batch_size=batch_size,
        sequence_length=sequence_length,
        max_context_length=max_context_length,
        tensor_parallel_size=tensor_parallel_size,
        dtype=dtype,
        on_device_sampling=on_device_sampling,
    )
    if as_job:
        if not role:
            raise click.UsageError("--job needs --role")
        if push_to_hub:
            raise click.UsageError("a job pushes nothing to the hub; push from a machine that has compiled")
        request = partial(
            job.plan,
            chosen,
            spec,
            output,
            role=role,
            token_secret=token_secret,
            bucket_owner=bucket_owner,
            volume_kms_key=volume_kms_key,
            subnets=subnets,
            security_groups=security_groups,
        )
        _as_job(request, spec, output, dry_run, region, bucket_owner)
        return
    planned = local.plan(spec, gated=chosen.model.gated and model is None)
    if dry_run:
        click.echo("\n".join(planned.lines()))
        click.echo(f"package it to {output}")
        if push_to_hub:
            who = "for everybody to read" if public else "private"
            click.echo(f"push graphs, configuration and tokenizer to {push_to_hub}, {who}, no weights")
        return
    step = steps()
    store = at(output, region, bucket_owner)
    store.check_writable()
    folder, exact = local.run(planned, step)
    publish_contents(spec.applied_to(chosen), preset, folder, store, step, revision=exact)
    if spec.applied_to(chosen) != chosen:
        click.echo(
            f"this is not what {chosen.name} says: to deploy it, make a preset of your own that says it",
            err=True,
        )
    if push_to_hub:
        step(f"pushing to {push_to_hub}")
        click.echo(hub.push(folder, push_to_hub, public=public))


def _as_job(
    request: Callable[..., Job],
    spec: CompileSpec,
    output: str,
    dry_run: bool,
    region: str | None,
    bucket_owner: str | None,
) -> None:
    from inf2kit import aws, paths
    from inf2kit.compile import job, job_progress, local
    from inf2kit.package import at, split

    local.plan(spec, gated=False)  # what cannot be compiled is refused before anything is started
    with aws.translate_errors(CompileError, "compiling as a job"):
        place = region or aws.default_region()
    compilation = request(region=place, now=dt.datetime.now(dt.timezone.utc))
    if dry_run:
        click.echo(json.dumps(compilation.request, indent=2))
        click.echo(job.NOT_PROVEN, err=True)
        return
    step = steps()
    store = at(output, place, bucket_owner)
    store.check_writable()
    job.start(compilation, step, place)
    try:
        where = job_progress.follow(compilation.name, step, place)
    except KeyboardInterrupt:
        look = f"aws sagemaker describe-processing-job --processing-job-name {compilation.name}"
        click.echo(f"the job goes on: {look}", err=True)
        raise SystemExit(130) from None
    click.echo(where)
    _, digest = split(where)
    if content := store.manifest(digest):
        # As packaging does: a synth reads it.
        paths.keep_manifest(digest, content)


def _prepare(
    preset: Preset,
    preset_argument: str,
    output: str,
    model: str | None,
    revision: str | None,
    dry_run: bool,
    region: str | None,
    bucket_owner: str | None,
) -> None:
    """The same command for a preset of the CPU: there is nothing to compile."""
    from inf2kit.compile import hub
    from inf2kit.package import at
    from inf2kit.rehearsal import model as embedded

    name = model or preset.model.id
    if dry_run:
        click.echo(f"nothing to compile: {preset.name} runs on the CPU\npackage {name} to {output}")
        return
    step = steps()
    store = at(output, region, bucket_owner)
    store.check_writable()
    if name == embedded.MODEL_ID:
        weights, exact = embedded.prepare(step), revision
    else:
        if not Path(name).is_dir():
            hub.check_token(name, gated=preset.model.gated and model is None)
            step(f"fetching {name}")
        weights, exact = hub.fetch(name, revision)
    publish_contents(preset, preset_argument, weights, store, step, revision=exact)
