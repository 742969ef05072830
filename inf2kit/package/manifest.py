"""The manifest of a package: its preset, the versions that it needs, and the sha256 of every file."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit.errors import PackageError
from inf2kit.presets import Compute, Preset
from inf2kit.serving.model_dir import FORMAT, digest_of
from inf2kit.serving.shapes import StaticShapes

#: A package's digest: the first 32 hexadecimal digits of its manifest's sha256.
DIGEST = re.compile(r"[0-9a-f]{32}")
_MAKE_AGAIN = "make the package again with 'inf2kit package'"


@dataclass(frozen=True)
class Entry:
    """One file of a package.

    Attributes:
        size: In bytes.
        sha256: 64 hexadecimal digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``inf2kit.json``.

    Attributes:
        inf2kit: The version of inf2kit that made the package.
        preset: The preset as a nested dictionary; the engine reads its shapes, compute and serving.
        revision: The model's revision on its hub; None where it is not known.
        target: ``inf2`` for a compiled artefact, ``cpu`` for plain weights.
        image_tag: The container image that the package is for; None for ``cpu``.
        versions: The versions that compiled the model, which must be the image's: ``optimum_neuron``,
            ``neuronx_cc``, ``neuron_sdk`` and others; empty for ``cpu``.
        notice: What is simulated, such as a rehearsal's model; None where nothing is.
        files: Every other file of the package, by its path.
        vendored: Versions of the packages in ``code/vendor``; empty in packages of an earlier inf2kit.
        handler: The name of the user's file that ships as ``code/inference.py``; None for inf2kit's own.
        model_name: The model's own name, where it is not the preset's model.
    """

    inf2kit: str
    preset: Mapping[str, Any]
    revision: str | None
    target: str
    image_tag: str | None
    versions: Mapping[str, str]
    notice: str | None
    files: Mapping[str, Entry]
    vendored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    handler: str | None = None
    model_name: str | None = None

    @property
    def digest(self) -> str:
        """The package's name; the same files, preset, revision and inf2kit give the same on every machine."""
        return digest_of(self.to_bytes())

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    @property
    def preset_name(self) -> str:
        """The name of the preset that the package was made for."""
        return str(self.preset["name"])

    @property
    def model(self) -> str:
        """The name that the endpoint answers with: the model's own, or that of the preset's model."""
        return self.model_name or str(self.preset["model"]["id"])

    @property
    def shapes(self) -> StaticShapes:
        """The static shapes of the preset."""
        return StaticShapes.from_dict(self.preset["shapes"])

    def to_bytes(self) -> bytes:
        """Return the file's content; equal manifests give equal bytes."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        # Optional values are left out, so that packages without them keep their digests.
        for name in ("vendored", "handler", "model_name"):
            if not values[name]:
                del values[name]
        return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def parse(cls, content: bytes, source: str) -> Manifest:
        """Parse a manifest.

        Args:
            content: The file's bytes.
            source: The file's name in error messages.

        Raises:
            PackageError: it is not a manifest, or is of another format.
        """
        try:
            values = json.loads(content)
            version = values.pop("format", None)
            if version != FORMAT:
                raise PackageError(
                    f"{source} is a manifest of format {version}, this inf2kit reads format {FORMAT}; "
                    f"{_MAKE_AGAIN}"
                )
            files = {path: Entry(**entry) for path, entry in values.pop("files").items()}
            manifest = cls(**values, files=files)
            _ = manifest.preset_name, manifest.model, manifest.shapes  # raise where the preset is not whole
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise PackageError(
                f"{source} is not a manifest of a model package ({error}); {_MAKE_AGAIN}"
            ) from None
        return manifest

    def check_fits(self, preset: Preset, image_tag: str) -> None:
        """Check that the package was compiled for a preset and an image.

        Raises:
            PackageError: naming the first value that differs.
        """
        if self.preset_name != preset.name:
            raise PackageError(
                f"the package {self.digest} was made for the preset {self.preset_name!r}, not for "
                f"{preset.name!r}; deploy that one, or package for this one with --preset {preset.name}"
            )
        # Packages of one engine do not name their number of engines.
        compute = {"data_parallel_size": Compute.data_parallel_size, **self.preset["compute"]}
        packaged_values = {**self.preset, "shapes": dataclasses.asdict(self.shapes), "compute": compute}
        preset_values = dataclasses.asdict(preset)
        for path in _COMPARED_VALUES:
            packaged, expected = _get(packaged_values, path), _get(preset_values, path)
            # A rehearsal has the preset's shapes and engines, but another model on another backend.
            is_rehearsed = path[0] == "shapes" or path[-1] == "data_parallel_size"
            if packaged != expected and (is_rehearsed or self.notice is None):
                raise PackageError(
                    f"the package {self.digest} has {'.'.join(path)} {packaged!r}, the preset "
                    f"{preset.name!r} asks for {expected!r}; {_MAKE_AGAIN}"
                )
        if self.image_tag not in (None, image_tag):
            raise PackageError(
                f"the package {self.digest} is for the image {self.image_tag}, "
                f"this inf2kit deploys {image_tag}: an artefact loads only in "
                "the image that compiled it; compile it again"
            )


_COMPARED_VALUES = (
    ("model", "id"),
    ("shapes", "batch_size"),
    ("shapes", "sequence_length"),
    ("shapes", "max_context_length"),
    ("compute", "backend"),
    ("compute", "tensor_parallel_size"),
    ("compute", "dtype"),
    ("compute", "data_parallel_size"),
)


def _get(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key] if isinstance(values, Mapping) else {}
    return values
