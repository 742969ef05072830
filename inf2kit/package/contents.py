"""What a package will hold, before any byte of it is written: files by path, and their manifest."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import inf2kit
from inf2kit import catalog
from inf2kit.package import code
from inf2kit.package import weights as source
from inf2kit.package.handler import check_handler
from inf2kit.package.hashing import Hashed
from inf2kit.package.manifest import Manifest
from inf2kit.presets import Preset, load_preset
from inf2kit.serving.model_dir import MANIFEST

#: The preset whose model and backend stand in for those of a Neuron preset.
_STAND_IN = "smollm2-135m-local"


@dataclass(frozen=True)
class Contents:
    """A package that is not written yet.

    Attributes:
        manifest: What it will say.
        files: Where the bytes of each of its files are now.
        parts: The sha256 of each piece of each file, as they were when the manifest was made.
    """

    manifest: Manifest
    files: Mapping[str, Path]
    parts: Mapping[str, tuple[bytes, ...]]

    def hashed(self, name: str) -> Hashed:
        """One of the files."""
        return Hashed(self.files[name], self.manifest.files[name], self.parts[name])

    def materialise(self, target: Path) -> None:
        """Make the model directory as SageMaker lays it out; weights are linked where that is possible.

        Args:
            target: Must not exist yet.
        """
        for name, path in self.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if name.startswith("code/") or not _link(path, target / name):
                shutil.copyfile(path, target / name)
        # Written last: a directory without it is no package.
        (target / MANIFEST).write_bytes(self.manifest.to_bytes())


def gather(
    preset: Preset,
    weights: Path,
    *,
    revision: str | None = None,
    rehearsal: bool = False,
    handler: Path | None = None,
) -> Contents:
    """Everything that a package of ``preset`` will hold.

    Args:
        preset: Goes into the manifest, where the engine reads it.
        weights: A directory of weights, configuration and tokenizer.
        revision: The model's revision on its hub.
        rehearsal: Whether a preset for Neuron gets the embedded model on the CPU in the place of its own;
            its shapes stay, and every answer says what stands in.
        handler: A file that ships as ``code/inference.py`` instead of inf2kit's own.

    Raises:
        PackageError: the directory is not whole, or was made for something else; or the handler cannot serve.
    """
    notice = None
    if rehearsal and preset.compute.backend == "neuron":
        preset, notice = _rehearsed(preset)
    files = source.files_of(weights)
    versions = source.check(files, preset, weights)
    files |= code.files(handler and check_handler(handler))
    compiled = preset.compute.backend == "neuron"
    hashed = _hashed(files)
    manifest = Manifest(
        inf2kit=inf2kit.__version__,
        preset=preset.to_manifest(),
        revision=revision,
        target="inf2" if compiled else "cpu",
        image_tag=catalog.image().tag if compiled else None,
        versions=versions,
        notice=notice,
        files={name: each.entry for name, each in hashed.items()},
        vendored=code.vendored(),
        handler=handler.name if handler else None,
    )
    return Contents(manifest, files, {name: each.parts for name, each in hashed.items()})


def _link(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        return False
    return True


def _hashed(files: Mapping[str, Path]) -> dict[str, Hashed]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(Hashed.of, files.values()), strict=True))


def _rehearsed(preset: Preset) -> tuple[Preset, str]:
    stand_in = load_preset(_STAND_IN)
    notice = (
        f"rehearsal: {stand_in.model.id} on a CPU stands in for {preset.model.id} "
        f"on {preset.compute.instance_type}"
    )
    compute = dataclasses.replace(stand_in.compute, instance_type=preset.compute.instance_type)
    return dataclasses.replace(preset, compute=compute, model=stand_in.model), notice
