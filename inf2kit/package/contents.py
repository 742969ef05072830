"""The contents of a package before it is written: its files by path, and their manifest."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import inf2kit
from inf2kit import catalog
from inf2kit.checkpoint import Inspection, inspect
from inf2kit.errors import PackageError
from inf2kit.package import code
from inf2kit.package.compiled import check_compiled, compiled_for
from inf2kit.package.handler import check_handler
from inf2kit.package.hashing import HashedFile
from inf2kit.package.manifest import Manifest
from inf2kit.presets import Preset, load_preset
from inf2kit.serving.model_dir import CODE_FOLDER, MANIFEST

#: A rehearsal runs a Neuron preset with the model and the backend of this one.
_REHEARSAL_PRESET = "smollm2-135m-local"


@dataclass(frozen=True)
class Contents:
    """A package that is not written yet.

    Attributes:
        manifest: The package's manifest.
        files: The file on this machine of each path in the package.
        parts: The sha256 of each part of each file, as it was when the manifest was made.
    """

    manifest: Manifest
    files: Mapping[str, Path]
    parts: Mapping[str, tuple[bytes, ...]]

    def hashed_file(self, name: str) -> HashedFile:
        """Return one of the files with its hashes."""
        return HashedFile(self.files[name], self.manifest.files[name], self.parts[name])

    def materialise(self, target: Path) -> None:
        """Write the model directory as SageMaker lays it out. Weights become hard links where possible.

        Args:
            target: A folder that does not exist yet.
        """
        for name, path in self.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if name.startswith(f"{CODE_FOLDER}/") or not _link(path, target / name):
                shutil.copyfile(path, target / name)
        # The manifest is written last: a directory without it is no package.
        (target / MANIFEST).write_bytes(self.manifest.to_bytes())


def collect(
    preset: Preset,
    weights: Path,
    *,
    revision: str | None = None,
    rehearsal: bool = False,
    handler: Path | None = None,
    model_name: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Contents:
    """Collect and hash everything that a package of a preset holds.

    Args:
        preset: The preset that the manifest records and the engine reads.
        weights: A folder of weights, configuration and tokenizer.
        revision: The model's revision on its hub.
        rehearsal: Whether a Neuron preset gets the embedded model on the CPU in place of its own. The shapes
            stay, and every answer names the substitute.
        handler: A file that ships as ``code/inference.py`` instead of inf2kit's own.
        model_name: The model's own name, where it is not the preset's model, such as a fine-tune's.
        progress: Called with what is known of the folder, line by line, before anything is hashed.

    Raises:
        PackageError: the folder is not one that can be served, is compiled for something else, or the handler
            cannot serve.
    """
    notice = None
    if rehearsal and preset.compute.backend == "neuron":
        preset, notice = _with_embedded_model(preset)
    if handler is not None:
        check_handler(handler)
    is_compiled = preset.compute.backend == "neuron"
    inspection = inspect(weights, compiles=is_compiled, sequence_length=preset.shapes.sequence_length)
    for line in inspection.lines():
        progress(line)
    inspection.check()
    versions = {}
    if is_compiled:
        versions = check_compiled(inspection.files, preset, weights)
        preset = compiled_for(inspection.files, preset, weights)
    if inspection.is_compiled and not is_compiled:
        raise PackageError(
            f"{weights} is compiled for Neuron, and {preset.name!r} runs on the CPU; give a directory of "
            "plain weights, or a preset for Neuron"
        )
    files = {**inspection.files, **_write_rewritten(inspection), **code.list_files(handler)}
    progress(f"hashing {weights}")
    hashed = _hash_files(files)
    manifest = Manifest(
        inf2kit=inf2kit.__version__,
        preset=preset.to_manifest(),
        revision=revision,
        target="inf2" if is_compiled else "cpu",
        image_tag=catalog.image().tag if is_compiled else None,
        versions=versions,
        notice=notice,
        files={name: file.entry for name, file in hashed.items()},
        vendored=code.vendored_versions(),
        handler=handler.name if handler else None,
        model_name=None if notice or model_name == preset.model.id else model_name,
    )
    return Contents(manifest, files, {name: file.parts for name, file in hashed.items()})


def _write_rewritten(inspection: Inspection) -> dict[str, Path]:
    """Write the files that a package holds in another form than the folder, and return them by path."""
    files = {}
    for name, content in inspection.rewritten.items():
        files[name] = _scratch() / hashlib.sha256(content).hexdigest() / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(content)
    return files


@functools.cache
def _scratch() -> Path:
    """Return a folder that is deleted when this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="inf2kit-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _link(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        return False
    return True


def _hash_files(files: Mapping[str, Path]) -> dict[str, HashedFile]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(HashedFile.from_path, files.values()), strict=True))


def _with_embedded_model(preset: Preset) -> tuple[Preset, str]:
    """Return the preset with the embedded model on the CPU, and the notice that says so."""
    substitute = load_preset(_REHEARSAL_PRESET)
    notice = (
        f"rehearsal: {substitute.model.id} on a CPU stands in for {preset.model.id} "
        f"on {preset.compute.instance_type}"
    )
    compute = dataclasses.replace(
        substitute.compute,
        instance_type=preset.compute.instance_type,
        # Engines are given the cores that they would have there.
        tensor_parallel_size=preset.compute.tensor_parallel_size,
        data_parallel_size=preset.compute.data_parallel_size,
    )
    return dataclasses.replace(preset, compute=compute, model=substitute.model), notice
