"""Compile on this machine: check first, fetch the weights, compile in a child process, keep the result."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from inf2kit import catalog, paths
from inf2kit.checkpoint import inspect
from inf2kit.compile import disk_space, hub
from inf2kit.compile.export_process import run_export
from inf2kit.compile.hub import ModelFolder
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture

Progress = Callable[[str], None]

_REVISION_FILE = ".revision"


@dataclass(frozen=True)
class CompilePlan:
    """One compilation on this machine.

    Attributes:
        spec: What to compile.
        gated: Whether the hub asks for a token.
        folder: Where the compiled model is kept.
        is_compiled: Whether it is there already.
        shard_bytes: Bytes that are written there; None where the model's size is not known.
    """

    spec: CompileSpec
    gated: bool
    folder: Path
    is_compiled: bool
    shard_bytes: int | None

    def lines(self) -> list[str]:
        """Return the plan for ``--dry-run``."""
        spec, versions = self.spec, catalog.image().versions
        sampling = "on the device" if spec.on_device_sampling else "on the host"
        size = f"about {self.shard_bytes / 1e9:.1f} GB" if self.shard_bytes else "as large as the weights"
        return [
            f"compile {spec.model}" + (f", revision {spec.revision}" if spec.revision else ""),
            f"  {spec.shapes.batch_size} rows of {spec.shapes.sequence_length} tokens, prompts up to "
            f"{spec.shapes.max_context_length}, {spec.dtype}, {spec.tensor_parallel_size} cores, "
            f"sampling {sampling}",
            f"  with optimum-neuron {versions['optimum_neuron']} and neuronx-cc "
            f"{versions['neuronx_cc']}, as in the image {catalog.image().tag}",
            f"  to {self.folder}" + (": it is there already" if self.is_compiled else f", {size}"),
        ]


def plan(spec: CompileSpec, *, gated: bool) -> CompilePlan:
    """Plan a compilation.

    Args:
        spec: What to compile.
        gated: Whether the hub asks for a token.

    Raises:
        CompileError: the model cannot be compiled for these cores or positions. A model whose architecture is
            not on this machine is checked after it is fetched.
    """
    shard_bytes = None
    if spec.model in catalog.models() or Path(spec.model).exists():
        architecture = Architecture.find(spec.model)
        spec.check(architecture)
        shard_bytes = spec.shard_bytes(architecture)
    folder = paths.home() / "compiled" / _cache_key(spec)
    return CompilePlan(spec, gated, folder, folder.is_dir(), shard_bytes)


def execute(plan: CompilePlan, progress: Progress, *, token: str | None = None) -> ModelFolder:
    """Compile, or return the model that an earlier run has compiled.

    Args:
        plan: The plan.
        progress: Called with the name of each step.
        token: A token of the hub, instead of the one that the user has logged in with.

    Raises:
        CompileError: the compiler is missing, or the compilation has failed; its log is kept.
    """
    if plan.is_compiled:
        progress(f"compiled before, in {plan.folder}")
        revision = (plan.folder / _REVISION_FILE).read_text(encoding="utf-8")
        return ModelFolder(plan.folder, revision or None)
    check_compiler()
    spec = plan.spec
    if not Path(spec.model).is_dir():
        hub.check_token(spec.model, gated=plan.gated and token is None)
        _check_room(plan)
        progress(f"fetching {spec.model}")
    source = hub.fetch(spec.model, spec.revision, token)
    inspection = inspect(source.path, sequence_length=spec.shapes.sequence_length)
    for line in inspection.lines():
        progress(line)
    inspection.check()
    architecture = Architecture.from_config(inspection.config, str(source.path))
    spec.check(architecture)
    shard_bytes = spec.shard_bytes(architecture)
    work = plan.folder.with_suffix(".making")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    disk_space.check_room({work: _with_margin(shard_bytes)})
    # The compiler reads a copy, rewritten for its version of transformers; the folder itself stays as it is.
    checkpoint = inspection.write(work / "checkpoint")
    compiled = run_export(replace(spec, revision=source.revision), checkpoint, work, progress)
    (compiled / _REVISION_FILE).write_text(source.revision or "", encoding="utf-8")
    compiled.rename(plan.folder)
    shutil.rmtree(work)
    return ModelFolder(plan.folder, source.revision)


def check_compiler() -> None:
    """Check that the compiler is installed, in the versions that the endpoint's image loads.

    Raises:
        CompileError: it is not; the message names the ways to compile elsewhere.
    """
    image = catalog.image()
    advice = (
        f"compile in the image {image.tag}, which has both and needs no device, or let SageMaker do that: "
        "add --job"
    )
    missing = [
        name
        for name, module in (("neuronx-cc", "neuronxcc"), ("optimum-neuron", "optimum"))
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise CompileError(f"{' and '.join(missing)} cannot be found on this machine; {advice}")
    installed = metadata.version("optimum-neuron")
    if installed != image.versions["optimum_neuron"]:
        raise CompileError(
            f"optimum-neuron {installed} is installed here, and the endpoint's image loads only what "
            f"{image.versions['optimum_neuron']} has compiled; {advice}"
        )


def _cache_key(spec: CompileSpec) -> str:
    """Name a compilation by the spec, the compiler's versions and the files of a local model."""
    files = ""
    if Path(spec.model).is_dir():
        # Another model may take the folder's place. Size and time tell that without hashing 13 GB.
        paths_ = sorted(path for path in Path(spec.model).iterdir() if path.is_file())
        files = "".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in paths_)
        # What an earlier inf2kit has compiled without rewriting is not used.
        files += "".join(f"{change}\n" for change in inspect(Path(spec.model)).changes)
    versions = catalog.image().versions
    key = f"{spec.to_json()} {versions['optimum_neuron']} {versions['neuronx_cc']} {files}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _check_room(plan: CompilePlan) -> None:
    """Check the disks before the weights are fetched, where the model's size is known."""
    if plan.shard_bytes is None:
        return
    needs = {plan.folder: _with_margin(plan.shard_bytes)}
    if not hub.is_cached(plan.spec.model, plan.spec.revision):
        needs[hub.cache_folder()] = plan.spec.weight_bytes(Architecture.find(plan.spec.model))
    disk_space.check_room(needs)


def _with_margin(shard_bytes: int) -> int:
    """Add a tenth for the graphs and the compiler's own files."""
    return shard_bytes + shard_bytes // 10
