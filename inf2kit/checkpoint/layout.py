"""What each file of a model's folder is, by its name alone, as a repository lists it too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inf2kit.serving.model_dir import (
    COMPILED_GRAPHS,
    MODEL_CONFIG,
    NEURON_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
)

CHAT_TEMPLATES = "additional_chat_templates/"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_COMPILED_SHARDS = "checkpoint/weights/"

#: What is left out, as regular expressions of paths, the first match counts. A group named ``folder`` is left
#: out as a whole.
_LEFT_OUT: tuple[tuple[str, str], ...] = (
    (r"(?P<folder>(.*/)?\.[^/]+/)|(.*/)?\.[^/]+", "hidden"),
    (r"(?P<folder>(.*/)?__pycache__/)|.*\.py[co]?", "code of the model's own, which is never run"),
    (
        r"(?P<folder>(.*/)?(checkpoint-\d+|global_step\d+|runs|wandb|tensorboard|(pytorch_model|optimizer)_fsdp_\d+)/)",
        "of a training",
    ),
    (
        r"(.*/)?(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state|zero_)[^/]*"
        r"|(.*/)?(latest|dataloader\.bin|events\.out\.tfevents.*)|.*\.log",
        "of a training",
    ),
    (
        r"(?P<folder>(original|metal)/)|consolidated[^/]*|params\.json",
        "the same model in its maker's own layout",
    ),
    (
        r"(?P<folder>(onnx|openvino|coreml|gguf|mlx|tflite|flax|tf)/)"
        r"|.*\.(gguf|ggml|onnx|onnx_data|h5|msgpack|tflite|mlmodel|npz|engine|ot)",
        "weights for another framework",
    ),
    (r"adapter_(model|config)[^/]*", "an adapter, which is not applied to the weights"),
    (r".*\.(incomplete|partial|part|tmp|lock|aria2|crdownload)", "of a download that broke off"),
    (r".*\.(zip|tar|tgz|gz|zst|7z)", "an archive"),
    # Loading a pickle runs its code, and the engine loads none.
    (r".*\.(bin|ckpt|joblib|pickle|pkl|pt|pth)(\.index\.json)?", "pickled, which is never loaded"),
)
_RULES = tuple((re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in _LEFT_OUT)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that no package holds.

    Attributes:
        name: Its path in the folder; a folder's ends in a slash.
        reason: What it is.
        files: Number of files.
        size: Their bytes.
    """

    name: str
    reason: str
    files: int
    size: int


@dataclass(frozen=True)
class Layout:
    """The files of a model's folder, sorted.

    Attributes:
        packaged: Paths that a package holds.
        left_out: Everything else, largest first.
        models: Folders inside this one that hold a model of their own, each without a slash at its end.
    """

    packaged: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    models: tuple[str, ...]


def sort_files(sizes: Mapping[str, int]) -> Layout:
    """Sort a folder's files into those of a package and those that are left out.

    Args:
        sizes: The bytes of each file by its path in the folder, with slashes.
    """
    folders = [name.removesuffix(f"/{MODEL_CONFIG}") for name in sizes if name.endswith(f"/{MODEL_CONFIG}")]
    models = tuple(sorted((name for name in folders if not name.startswith(".")), key=_by_number))
    packaged: list[str] = []
    left_out: dict[tuple[str, str], list[int]] = {}
    for name in sorted(sizes):
        place = _left_out(name, sizes, models)
        if place is None:
            packaged.append(name)
        else:
            left_out.setdefault(place, []).append(sizes[name])
    entries = [LeftOut(*place, len(files), sum(files)) for place, files in left_out.items()]
    return Layout(
        tuple(packaged), tuple(sorted(entries, key=lambda entry: (-entry.size, entry.name))), models
    )


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort ``checkpoint-1000`` after ``checkpoint-500``."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _left_out(name: str, sizes: Mapping[str, int], models: Iterable[str]) -> tuple[str, str] | None:
    """Return what is left out because of a file, and why; None for a file that is packaged."""
    is_compiled = NEURON_CONFIG in sizes
    # The compiled graphs are TorchScript, which torch loads without running pickled code.
    if is_compiled and name == COMPILED_GRAPHS:
        return None
    if not (is_compiled and name.startswith(_COMPILED_SHARDS)):
        for folder in models:
            if name.startswith(f"{folder}/") and not _matches(f"{folder}/"):
                return f"{folder}/", "a model of its own"
    if place := _matches(name):
        return place
    if name.lower().endswith(".safetensors") and not is_compiled:
        return _left_out_weights(name, sizes)
    if name == WEIGHTS_INDEX and WEIGHTS in sizes:
        return name, f"the same weights again: transformers loads {WEIGHTS}"
    return None


def _left_out_weights(name: str, sizes: Mapping[str, int]) -> tuple[str, str] | None:
    if name == WEIGHTS:
        return None
    if SHARD.fullmatch(name):
        return (name, f"the same weights again: transformers loads {WEIGHTS}") if WEIGHTS in sizes else None
    if WEIGHTS not in sizes and WEIGHTS_INDEX in sizes and "/" not in name:
        return None  # the index may give shards other names
    return name, "weights that the model does not load"


def _matches(name: str) -> tuple[str, str] | None:
    for pattern, reason in _RULES:
        if pattern.pattern.startswith("(?P<folder>") and (prefix := pattern.match(name)):
            folder = prefix.groupdict().get("folder")
            if folder:
                return folder, reason
        if pattern.fullmatch(name):
            return name, reason
    return None
