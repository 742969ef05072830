"""The source of a package: a folder of weights and tokenizer, checked before anything is hashed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.errors import PackageError
from inf2kit.presets import Preset
from inf2kit.serving.model_dir import (
    CODE_FOLDER,
    COMPILED_GRAPHS,
    MANIFEST,
    MODEL_CONFIG,
    NEURON_CONFIG,
    SENTENCEPIECE_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
    compiled_files,
)

_TOKENIZERS = (TOKENIZER, SENTENCEPIECE_TOKENIZER)
#: Suffixes of pickles, as torch and others write them. A model that loads here has safetensors beside them.
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")


def list_files(source: Path) -> dict[str, Path]:
    """List the files of a source folder by their path in the package.

    Hidden files are left out. So are pickles: loading one runs its code, and the engine loads none.

    Raises:
        PackageError: the source is no folder, holds a manifest or ``code/``, or a link leads out of it.
    """
    if not source.is_dir():
        raise PackageError(f"{source} is not a directory; give one of weights and tokenizer")
    link_targets = _allowed_link_targets(source.resolve())
    graphs = COMPILED_GRAPHS if (source / NEURON_CONFIG).exists() else None
    files: dict[str, Path] = {}
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if any(part.startswith(".") for part in relative.parts):
            continue
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(folder) for folder in link_targets):
            raise PackageError(
                f"{path} is a link to {target}, outside of {source}, and would be published too; "
                "put a copy in its place, or delete it"
            )
        # The compiled graphs are TorchScript, which torch loads without running pickled code.
        is_pickle = path.suffix in _PICKLES and relative.as_posix() != graphs
        if path.is_file() and not is_pickle:
            # The hub's cache holds links to its files. The package gets the file.
            files[relative.as_posix()] = target
    for name in files:
        if name == MANIFEST or name.startswith(f"{CODE_FOLDER}/"):
            raise PackageError(
                f"{source} holds {name}, so it is a package already or has code of its own; "
                "give a directory of weights and tokenizer only"
            )
    return files


def _allowed_link_targets(source: Path) -> list[Path]:
    """Return where links may lead: into the source, and from a snapshot of the hub's cache to its blobs."""
    blobs = source.parents[1] / "blobs" if source.parent.name == "snapshots" else source
    return [source, blobs]


def check_files(files: Mapping[str, Path], preset: Preset, source: Path) -> dict[str, str]:
    """Check that a preset's backend can load the files.

    Args:
        files: The files by their path in the package.
        preset: The preset.
        source: The folder's name in error messages.

    Returns:
        The versions that compiled the model; empty for plain weights.

    Raises:
        PackageError: naming the file that is missing, cut off, or was compiled for something else.
    """
    if MODEL_CONFIG not in files:
        raise PackageError(
            f"{source} lacks {MODEL_CONFIG}; give a directory that save_pretrained has written"
        )
    if not any(name in files for name in _TOKENIZERS):
        raise PackageError(
            f"{source} lacks its tokenizer ({' or '.join(_TOKENIZERS)}); save it there with "
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)"
        )
    if preset.compute.backend == "neuron":
        versions = _check_compiled(files, preset, source)
    else:
        versions = {}
        _check_weights(files, source)
    for name, path in files.items():
        if name.endswith(".safetensors"):
            _check_safetensors(path)
    return versions


def _check_weights(files: Mapping[str, Path], source: Path) -> None:
    required = [WEIGHTS]
    if WEIGHTS_INDEX in files:
        weight_map = _read_json(files[WEIGHTS_INDEX]).get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            raise PackageError(f"{source / WEIGHTS_INDEX} names no weights; save the model again")
        required = sorted({str(name) for name in weight_map.values()})
    _check_present(files, required, source, "save the model again with save_pretrained")


def _check_compiled(files: Mapping[str, Path], preset: Preset, source: Path) -> dict[str, str]:
    """Check a compiled model, as optimum-neuron 0.4 saves it, and return the versions that compiled it."""
    advice = f"compile it for this preset: inf2kit compile {preset.name} --output PLACE"
    if NEURON_CONFIG not in files:
        raise PackageError(f"{source} lacks {NEURON_CONFIG}, so it is not compiled for Neuron; {advice}")
    config = _read_json(files[NEURON_CONFIG])
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


def _check_present(files: Mapping[str, Path], names: list[str], source: Path, advice: str) -> None:
    missing = [name for name in names if name not in files]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PackageError(f"{source} lacks {missing[0]}{others}; {advice}")


def _check_safetensors(path: Path) -> None:
    """Compare a file's size with its own header: a download that broke off is shorter."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError
            header = json.loads(file.read(length))
            ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
        except (struct.error, ValueError, KeyError, TypeError, AttributeError):
            raise PackageError(f"{path} is not a safetensors file; fetch it again") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise PackageError(
            f"{path} has {size:,} bytes and should have {expected:,} by its own header; fetch it again"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} cannot be read: {error}; fetch it again") from None
    if not isinstance(value, dict):
        raise PackageError(f"{path} is not a JSON object; fetch it again")
    return value
