"""A compiled model as the source of a package: is it compiled for the preset, and whole?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from inf2kit import catalog
from inf2kit.checkpoint.folder import read_json
from inf2kit.errors import PackageError
from inf2kit.presets import Preset
from inf2kit.serving.model_dir import NEURON_CONFIG, compiled_files


def check_compiled(files: Mapping[str, Path], preset: Preset, source: Path) -> dict[str, str]:
    """Check that a model is compiled for a preset and its image, as optimum-neuron 0.4 saves it.

    Args:
        files: The files by their path in the package.
        preset: The preset.
        source: The folder's name in error messages.

    Returns:
        The versions that compiled it.

    Raises:
        PackageError: naming the file that is missing, or what it was compiled for instead.
    """
    advice = f"compile it for this preset: inf2kit compile {preset.name} --output PLACE"
    if NEURON_CONFIG not in files:
        raise PackageError(f"{source} lacks {NEURON_CONFIG}, so it is not compiled for Neuron; {advice}")
    config = read_json(files[NEURON_CONFIG], source / NEURON_CONFIG)
    tensor_parallel_size = preset.compute.tensor_parallel_size
    graphs, *shards = compiled_files(tensor_parallel_size)
    _check_present(files, [graphs], source, advice)
    _check_present(
        files,
        shards,
        source,
        "without its shards it would fetch the weights from a hub at start, which an endpoint without a "
        "network cannot; compile it from a local copy of the model",
    )
    shapes = preset.shapes
    expected = {
        "batch_size": shapes.batch_size,
        "sequence_length": shapes.sequence_length,
        "max_context_length": shapes.prefill_length,
        "tp_degree": tensor_parallel_size,
        "torch_dtype": preset.compute.dtype,
    }
    for key, value in expected.items():
        compiled = config.get(key)
        compiled = compiled.removeprefix("torch.") if isinstance(compiled, str) else compiled
        if compiled is not None and compiled != value:
            raise PackageError(
                f"{source} was compiled with {key} {compiled}, the preset {preset.name!r} asks for {value}; "
                f"{advice}"
            )
    versions = dict(catalog.image().versions)
    for key, name in (("optimum_neuron_version", "optimum_neuron"), ("neuronxcc_version", "neuronx_cc")):
        # A compiler's version may end in its build, after a plus sign.
        version = str(config.get(key, "an unknown version")).partition("+")[0]
        if version != versions[name]:
            raise PackageError(
                f"{source} was compiled with {name} {version}, the image {catalog.image().tag} has "
                f"{versions[name]} and loads no other; compile it in that image"
            )
    return versions


def compiled_for(files: Mapping[str, Path], preset: Preset, source: Path) -> Preset:
    """Return the preset with the place where this compiled model chooses tokens; both serve any preset."""
    config = read_json(files[NEURON_CONFIG], source / NEURON_CONFIG)
    sampling = "device" if config.get("on_device_sampling") else "host"
    return dataclasses.replace(preset, compute=dataclasses.replace(preset.compute, sampling=sampling))


def _check_present(files: Mapping[str, Path], names: list[str], source: Path, advice: str) -> None:
    missing = [name for name in names if name not in files]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PackageError(f"{source} lacks {missing[0]}{others}; {advice}")
