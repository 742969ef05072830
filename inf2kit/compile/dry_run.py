"""What ``compile --dry-run`` prints: the model, what would be downloaded, what would be compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inf2kit import catalog
from inf2kit.checkpoint import Architecture, check_config, inspect
from inf2kit.checkpoint.inspection import format_size
from inf2kit.compile import hub, local
from inf2kit.compile.hub import HubModel, HubUnreachableError
from inf2kit.compile.local import CompilePlan
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit.report import Fit
from inf2kit.presets import Preset
from inf2kit.presets.schema import Compute

Note = Callable[[str], None]

#: So many of the files that are left out are named.
_NAMED = 5


def describe(spec: CompileSpec, compute: Compute, note: Note) -> list[str]:
    """Describe a compilation on this machine. The hub is asked, and nothing is kept of its answers.

    Args:
        spec: What to compile.
        compute: The instance that the preset is deployed on, and the engines there.
        note: Called with what cannot be found out, and why.

    Raises:
        CompileError: the model cannot be found, read or compiled.
    """
    before: list[str] = []
    after: list[str] = []
    architecture = None
    if Path(spec.model).is_dir():
        before = _describe_folder(Path(spec.model), spec.shapes.sequence_length, note)
    else:
        try:
            spec, remote = local.pin(spec, note)
        except HubUnreachableError as reason:
            note(f"{reason}: what would be downloaded is not known")
        else:
            if remote is not None:
                local.check_not_compiled(remote.files, remote.model)
                architecture = _read_architecture(remote, note)
                after = _describe_download(remote)
            elif copy := hub.find_local_copy(spec.model, spec.revision):
                before = _describe_folder(copy.path, spec.shapes.sequence_length, note)
                architecture = Architecture.find(str(copy.path))
    plan = local.plan(spec, architecture)
    return [*before, *plan.lines(), *_describe_fit(plan, compute), *after]


def _describe_fit(plan: CompilePlan, compute: Compute) -> list[str]:
    """Say whether the compiled model fits its instance, where each engine has its own copy."""
    engines = compute.data_parallel_size
    place = f"  for {f'{engines} engines on ' if engines > 1 else ''}{compute.instance_type}"
    if plan.architecture is None:
        return [place]
    spec = plan.spec
    fit = Fit(
        spec.model,
        plan.architecture,
        spec.shapes,
        spec.tensor_parallel_size,
        spec.dtype,
        compute.instance_type,
        engines,
    )
    return [f"{place}: it {'is tight' if fit.verdict == 'tight' else fit.verdict}"]


def describe_cpu(preset: Preset, model: str, revision: str | None, note: Note) -> list[str]:
    """Describe how the model of a preset for the CPU is packaged.

    Args:
        preset: The preset.
        model: ``OWNER/NAME`` on the hub, or a folder.
        revision: A commit, branch or tag of the model on the hub.
        note: Called with what cannot be found out, and why.

    Raises:
        CompileError: the model cannot be found, read or served.
    """
    lines = [f"nothing to compile: {preset.name} runs on the CPU"]
    if Path(model).is_dir():
        length = preset.shapes.sequence_length
        return [*_describe_folder(Path(model), length, note, compiles=False), *lines]
    if model == preset.model.id:
        return lines
    try:
        remote = hub.find(model, revision, note)
    except HubUnreachableError as reason:
        note(f"{reason}: what would be downloaded is not known")
        return lines
    check_config(hub.read_config(remote, note, keep=False), remote.where, compiles=False)
    return [*lines, *_describe_download(remote)]


def _describe_folder(folder: Path, sequence_length: int, note: Note, *, compiles: bool = True) -> list[str]:
    inspection = inspect(folder, compiles=compiles, sequence_length=sequence_length)
    if inspection.faults:
        note("\n".join(inspection.lines()))
    inspection.check()
    if compiles:
        local.check_not_compiled(inspection.files, str(folder))
    return inspection.lines()


def _read_architecture(remote: HubModel, note: Note) -> Architecture | None:
    """Read a model's sizes from the hub; None if that may not be read, but the presets know them."""
    try:
        config = hub.read_config(remote, note, keep=False)
    except CompileError as reason:
        if remote.model not in catalog.models():
            raise
        note(str(reason))
        return None
    return Architecture.from_config(check_config(config, remote.where), remote.where)


def _describe_download(remote: HubModel) -> list[str]:
    """Describe what would be downloaded, and what of the repository would not."""
    needed = remote.needed
    lines = [
        f"download {format_size(hub.missing_bytes(remote))} of {format_size(sum(needed.values()))}, "
        f"{len(needed)} files, to {hub.cache_folder()}"
    ]
    left_out = remote.layout.left_out
    lines += [
        f"  left out, {entry.reason}: {entry.name} ({format_size(entry.size)})" for entry in left_out[:_NAMED]
    ]
    if len(left_out) > _NAMED:
        lines.append(f"  left out: {len(left_out) - _NAMED} more")
    return lines
