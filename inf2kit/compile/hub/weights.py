"""Which files of a repository a model needs. Repositories hold others that are as large."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path

from inf2kit.errors import CompileError
from inf2kit.serving.model_dir import (
    MODEL_CONFIG,
    SENTENCEPIECE_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
)

#: Configuration and tokenizer, which lie beside the weights and not below them.
_SMALL = ("*.json", "tokenizer*", "*.model", "*.jinja")
_TEMPLATES = "additional_chat_templates/"


def choose(files: Mapping[str, int], where: str) -> dict[str, int]:
    """Choose the files that a model needs: weights as safetensors, configuration, tokenizer.

    Left out are weights in other formats, of other precisions and in folders, such as ``original/`` and
    ``checkpoint-500/``.

    Args:
        files: All files with their bytes.
        where: The model's name, for errors.

    Raises:
        CompileError: there are no weights as safetensors.
    """
    top = [name for name in files if "/" not in name or name.startswith(_TEMPLATES)]
    shards = [WEIGHTS] if WEIGHTS in files else fnmatch.filter(top, "model-*-of-*.safetensors")
    if not shards:
        others = sorted(name for name in files if name.endswith((".bin", ".pth", ".gguf", ".safetensors")))
        listed = f" (it has {', '.join(others[:3])})" if others else ""
        raise CompileError(
            f"{where} has no weights as safetensors{listed}; choose a revision that has, or save them so "
            "with save_pretrained of transformers"
        )
    small = [name for name in top if any(fnmatch.fnmatch(name, pattern) for pattern in _SMALL)]
    return {name: files[name] for name in sorted({*shards, *small})}


def find_lacking(folder: Path) -> str | None:
    """Return the name of the first file that a model's folder lacks; None if the model is whole."""
    if not (folder / MODEL_CONFIG).exists():
        return MODEL_CONFIG
    if not any((folder / name).exists() for name in (TOKENIZER, SENTENCEPIECE_TOKENIZER)):
        return TOKENIZER
    if (folder / WEIGHTS).exists():
        return None
    try:
        index = json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
        shards = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return WEIGHTS
    return next((name for name in shards if not (folder / name).exists()), None)
