"""Compile on this machine: check first, fetch the weights, compile in a child process, keep the result."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from inf2kit import catalog, paths
from inf2kit.checkpoint import Architecture, check_config, inspect
from inf2kit.checkpoint.inspection import format_size
from inf2kit.compile import disk_space, hub
from inf2kit.compile.corrections import CORRECTIONS
from inf2kit.compile.export_process import run_export
from inf2kit.compile.hub import HubModel, ModelFolder
from inf2kit.compile.spec import CompileSpec
from inf2kit.compile.work import exclusive_work
from inf2kit.errors import CompileError
from inf2kit.serving.model_dir import NEURON_CONFIG

Progress = Callable[[str], None]

_REVISION_FILE = ".revision"


@dataclass(frozen=True)
class CompilePlan:
    """One compilation on this machine.

    Attributes:
        spec: What to compile.
        folder: Where the compiled model is kept.
        is_compiled: Whether it is there already.
        architecture: The model's; None where it is not known yet.
    """

    spec: CompileSpec
    folder: Path
    is_compiled: bool
    architecture: Architecture | None

    def lines(self) -> list[str]:
        """Return the plan for ``--dry-run``."""
        spec, versions = self.spec, catalog.image().versions
        sampling = "on the device" if spec.on_device_sampling else "on the host"
        size = (
            f"about {format_size(spec.shard_bytes(self.architecture))}"
            if self.architecture
            else "as large as the weights"
        )
        return [
            f"compile {spec.model}" + (f", revision {spec.revision}" if spec.revision else ""),
            f"  {spec.shapes.batch_size} rows of {spec.shapes.sequence_length} tokens, prompts up to "
            f"{spec.shapes.max_context_length}, {spec.dtype}, {spec.tensor_parallel_size} cores, "
            f"sampling {sampling}",
            f"  with optimum-neuron {versions['optimum_neuron']} and neuronx-cc "
            f"{versions['neuronx_cc']}, as in the image {catalog.image().tag}",
            f"  to {self.folder}" + (": it is there already" if self.is_compiled else f", {size}"),
        ]


def pin(
    spec: CompileSpec, progress: Progress = lambda _: None, *, token: str | None = None
) -> tuple[CompileSpec, HubModel | None]:
    """Replace a branch or tag by the commit that it is now, so that all that follows is of one commit.

    Args:
        spec: What to compile.
        progress: Called with the reason for a further try, and where the cache must do for the hub.
        token: A token of the hub, instead of the one that the user has logged in with.

    Returns:
        The spec, and the model on the hub; None for a folder, and where the hub need not or cannot be asked.

    Raises:
        CompileError: there is no such model or revision, the token may not read it, or the hub cannot be
            asked and its cache has no whole copy.
    """
    if Path(spec.model).is_dir():
        return spec, None
    if hub.is_commit(spec.revision) and (
        _compiled_folder(spec).is_dir() or hub.find_local_copy(spec.model, spec.revision)
    ):
        return spec, None
    try:
        remote = hub.find(spec.model, spec.revision, progress, token=token)
    except hub.HubUnreachableError as reason:
        copy = hub.read_local_copy(spec.model, spec.revision, reason, progress)
        return replace(spec, revision=copy.revision), None
    return replace(spec, revision=remote.commit), remote


def plan(spec: CompileSpec, architecture: Architecture | None = None) -> CompilePlan:
    """Plan a compilation.

    Args:
        spec: What to compile.
        architecture: The model's. Without it, it is known only for a folder and for the presets' models.

    Raises:
        CompileError: the model cannot be compiled for these cores or positions.
    """
    if architecture is None and (spec.model in catalog.models() or Path(spec.model).exists()):
        architecture = Architecture.find(spec.model)
    if architecture is not None:
        spec.check(architecture)
    folder = _compiled_folder(spec)
    return CompilePlan(spec, folder, folder.is_dir(), architecture)


def execute(
    spec: CompileSpec,
    progress: Progress,
    *,
    gated: bool = False,
    token: str | None = None,
    folder: Path | None = None,
) -> ModelFolder:
    """Compile, or return the model that an earlier run has compiled.

    Args:
        spec: What to compile.
        progress: Called with the name of each step.
        gated: Whether the preset says that the hub asks for a token.
        token: A token of the hub, instead of the one that the user has logged in with.
        folder: Where the compiled model goes, instead of the folder in which it is kept for the next time.

    Raises:
        CompileError: the compiler is missing, the model cannot be fetched, or the compilation has failed; its
            log is kept.
    """
    if compiled := _read_compiled(folder or _compiled_folder(spec), progress):
        return compiled
    if Path(spec.model).is_dir():
        spec.check(Architecture.find(spec.model))
    check_compiler()
    if gated and token is None and not hub.find_local_copy(spec.model, spec.revision):
        hub.check_token(spec.model)
    spec, remote = pin(spec, progress, token=token)
    folder = folder or _compiled_folder(spec)
    if compiled := _read_compiled(folder, progress):
        return compiled
    source = _fetch(spec, remote, folder, progress, token)
    inspection = inspect(source.path, sequence_length=spec.shapes.sequence_length)
    for line in inspection.lines():
        progress(line)
    inspection.check()
    check_not_compiled(inspection.files, spec.model)
    architecture = Architecture.from_config(inspection.config, str(source.path))
    spec.check(architecture)
    with exclusive_work(folder, progress) as work:
        if compiled := _read_compiled(folder, progress):  # the process that was waited for has compiled it
            return compiled
        disk_space.check_room({work: _with_margin(spec.shard_bytes(architecture))})
        # The compiler reads a copy, rewritten for its version of transformers; the folder stays as it is.
        checkpoint = inspection.write(work / "checkpoint")
        model = run_export(replace(spec, revision=source.revision), checkpoint, work, progress)
        (model / _REVISION_FILE).write_text(source.revision or "", encoding="utf-8")
        model.rename(folder)
    return ModelFolder(folder, source.revision)


def _read_compiled(folder: Path, progress: Progress) -> ModelFolder | None:
    """Return the model that an earlier run has compiled, if any."""
    if not folder.is_dir():
        return None
    progress(f"compiled before, in {folder}")
    return ModelFolder(folder, (folder / _REVISION_FILE).read_text(encoding="utf-8") or None)


def _fetch(
    spec: CompileSpec, remote: HubModel | None, folder: Path, progress: Progress, token: str | None
) -> ModelFolder:
    """Download the weights, unless their configuration or the disks rule out what follows."""
    if remote is None:
        return hub.fetch(spec.model, spec.revision, progress, token=token)
    check_not_compiled(remote.files, remote.model)
    size = hub.missing_bytes(remote)
    if size and remote.gated and token is None:
        hub.check_token(spec.model)
    config = check_config(hub.read_config(remote, progress), remote.where)
    architecture = Architecture.from_config(config, remote.where)
    spec.check(architecture)
    shards = _with_margin(spec.shard_bytes(architecture))
    disk_space.check_room({folder: shards, hub.cache_folder(): size})
    progress(f"fetching {spec.model}: {len(remote.needed)} files, {size / 1e9:.2f} GB to download")
    return hub.download(remote, progress)


def check_not_compiled(files: Collection[str], model: str) -> None:
    """Refuse a model that is compiled for Neuron already.

    Args:
        files: The paths of its files.
        model: Its name, for the sentence.

    Raises:
        CompileError: it is.
    """
    if NEURON_CONFIG in files:
        raise CompileError(
            f"{model} is compiled for Neuron already; package its folder with inf2kit package, or give the "
            "model that it was compiled from"
        )


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


def _compiled_folder(spec: CompileSpec) -> Path:
    """Return where a compiled model is kept."""
    return paths.home() / "compiled" / _cache_key(spec)


def _cache_key(spec: CompileSpec) -> str:
    """Name a compilation by the spec, the versions of what compiles and the files of a local model."""
    files = ""
    if Path(spec.model).is_dir():
        # Another model may take the folder's place. Size and time tell that without hashing 13 GB.
        paths_ = sorted(path for path in Path(spec.model).iterdir() if path.is_file())
        files = "".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in paths_)
        # What an earlier inf2kit has compiled without rewriting is not used.
        files += "".join(f"{change}\n" for change in inspect(Path(spec.model)).changes)
    versions = catalog.image().versions
    compiler = f"{versions['optimum_neuron']} {versions['neuronx_cc']} {CORRECTIONS}"
    key = f"{spec.to_json()} {compiler} {files}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _with_margin(shard_bytes: int) -> int:
    """Add a tenth for the graphs and the compiler's own files."""
    return shard_bytes + shard_bytes // 10
