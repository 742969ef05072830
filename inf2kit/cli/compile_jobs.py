"""What ``inf2kit compile --job`` does with its job: start it, follow it, and make its package deployable."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inf2kit import catalog
from inf2kit.cli.account import chosen_profile
from inf2kit.cli.output import step_printer
from inf2kit.cli.publishing import print_deploy_command, print_difference
from inf2kit.errors import CompileError, PackageError
from inf2kit.presets import Preset

if TYPE_CHECKING:
    from inf2kit.compile.job import JobPlan
    from inf2kit.compile.spec import CompileSpec
    from inf2kit.package import Store


def find_region(region: str | None) -> str:
    """Return the job's region: the one that was given, or boto3's own."""
    from inf2kit import aws

    with aws.translate_errors(CompileError, "compiling as a job"):
        return region or aws.default_region()


def plan_job(preset: Preset, spec: CompileSpec, output: str, *, region: str, **options: Any) -> JobPlan:
    """Plan a job, after what could not be compiled is refused.

    Args:
        preset: The preset.
        spec: What to compile.
        output: ``s3://BUCKET/PREFIX`` of the packages.
        region: The job's region.
        **options: The other arguments of ``job.plan``.

    Raises:
        CompileError: the job would fail, or an option is wrong.
    """
    from inf2kit.compile import job, local

    if Path(spec.model).is_dir():
        raise CompileError(
            f"{spec.model} is a folder on this machine, which a job cannot read; push it to the hub, or "
            "compile without --job in the endpoint's image"
        )
    known = spec.model in catalog.models()
    if known or options.get("token_secret"):
        local.plan(spec)  # what the hub says without the job's token is not what it will say to the job
    else:
        spec = _look_at_hub(spec)
    now = dt.datetime.now(dt.timezone.utc)
    return job.plan(preset, spec, output, region=region, now=now, **options)


def _look_at_hub(spec: CompileSpec) -> CompileSpec:
    """Refuse a model of the hub that no job could compile, and return its spec at one commit."""
    from inf2kit.checkpoint import Architecture, check_config
    from inf2kit.compile import hub, local

    def note(line: str) -> None:
        click.echo(line, err=True)

    try:
        remote = hub.find(spec.model, spec.revision, note)
        local.check_not_compiled(remote.files, remote.model)
        config = check_config(hub.read_config(remote, note, keep=False), remote.where)
    except hub.HubUnreachableError as reason:
        note(f"{reason}: whether the job can compile it is not known")
        return spec
    local.plan(spec, Architecture.from_config(config, remote.where))
    return dataclasses.replace(spec, revision=remote.commit)


def print_job(plan: JobPlan) -> None:
    """Print a job's request."""
    from inf2kit.compile import job

    click.echo("\n".join(plan.lines()))
    click.echo(job.NOT_PROVEN, err=True)


def run_job(plan: JobPlan, preset_argument: str, store: Store) -> None:
    """Start a job and follow it to its end.

    Args:
        plan: The job.
        preset_argument: The preset as the user wrote it.
        store: Where its package goes.
    """
    from inf2kit.compile import job

    store.check_writable()
    job.execute(plan, step_printer())
    description = plan.description
    follow_job(plan.name, description.preset, preset_argument, store, description.region)
    if description.spec.apply_to(description.preset) != description.preset:
        print_difference(description.preset)


def follow_job(name: str, preset: Preset, preset_argument: str, store: Store, region: str) -> None:
    """Follow a job to its end, and print its package's place and the command that deploys it.

    Args:
        name: The job's name.
        preset: The preset that it compiles for.
        preset_argument: The preset as the user wrote it.
        store: Where its package goes.
        region: The job's region.
    """
    from inf2kit import paths
    from inf2kit.compile import job_progress
    from inf2kit.package import split_uri

    try:
        place = job_progress.follow(name, step_printer(), region)
    except KeyboardInterrupt:
        output = store.uri("").rstrip("/")
        command = ["inf2kit", "compile", preset_argument, "--output", output, "--follow", name]
        command += ["--region", region]
        if profile := chosen_profile():
            command += ["--profile", profile]
        click.echo(f"the job continues; follow it again: {shlex.join(command)}", err=True)
        raise SystemExit(130) from None
    click.echo(place)
    _, digest = split_uri(place)
    content = store.read_manifest(digest)
    if content is None:
        raise PackageError(
            f"the job {name} says that its package is {place}, and its manifest is not there; look for it "
            "with inf2kit packages list"
        )
    # 'cdk deploy' reads the manifest from this copy, as after packaging on this machine.
    paths.save_manifest(digest, content)
    print_deploy_command(preset, preset_argument, place, store)
