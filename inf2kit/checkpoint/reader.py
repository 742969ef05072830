"""Look at a model's folder: names, links, headers and configuration, not the weights themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from inf2kit.checkpoint import config as configs
from inf2kit.checkpoint import folder as folders
from inf2kit.checkpoint import kinds, layout, tokenizer
from inf2kit.checkpoint import tensors as weights
from inf2kit.checkpoint.inspection import Inspection
from inf2kit.checkpoint.layout import LeftOut
from inf2kit.checkpoint.tensors import Tensors
from inf2kit.errors import CheckpointError
from inf2kit.serving.model_dir import (
    GENERATION_CONFIG,
    MODEL_CONFIG,
    NEURON_CONFIG,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
)

_T = TypeVar("_T")
_TEMPLATE = "chat_template.jinja"
#: Files that transformers or the engine reads, each a JSON object.
_JSON_FILES = (
    MODEL_CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    tokenizer.CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
)


def inspect(folder: Path, *, compiles: bool = True, sequence_length: int | None = None) -> Inspection:
    """Look at a model's folder.

    Args:
        folder: A checkpoint as ``save_pretrained`` writes it, a snapshot in the hub's cache, or a compiled
            model.
        compiles: Whether the model is to be compiled for Neuron, which supports less than the CPU does.
        sequence_length: Tokens in a row; None where it is not known yet.

    Raises:
        CheckpointError: there is no such folder.
    """
    files, links = folders.list_files(folder)
    sizes = {name: path.stat().st_size for name, path in files.items()} | dict.fromkeys(links, 0)
    sorted_files = layout.sort_files(sizes)
    packaged = {name: files[name] for name in sorted_files.packaged if name in files}
    reader = _Reader(folder, packaged, list(sorted_files.left_out))
    reader.faults += [fault for fault in (folders.find_package(sizes, folder),) if fault]
    reader.faults += [fault for name, fault in links.items() if name in sorted_files.packaged]
    config: Mapping[str, Any] = {}
    tensors, vocabulary, has_template = Tensors(), None, False
    if fault := kinds.find_fault(sizes, str(folder)):
        reader.faults.append(fault)
    else:
        reader.check_contents()
        config = reader.read_config(compiles=compiles, sequence_length=sequence_length)
        tensors = reader.read_tensors(config)
        vocabulary, has_template = reader.read_tokenizer(tensors)
    return Inspection(
        folder=folder,
        files=reader.files,
        left_out=tuple(sorted(reader.left_out, key=lambda entry: (-entry.size, entry.name))),
        rewritten=reader.rewritten,
        changes=tuple(reader.changes),
        faults=tuple(dict.fromkeys(reader.faults)),
        config=config,
        tensors=tensors,
        vocabulary=vocabulary,
        has_chat_template=has_template,
        is_compiled=reader.is_compiled,
    )


class _Reader:
    """Reads the files that a package would hold, and collects what is wrong with them."""

    def __init__(self, folder: Path, files: dict[str, Path], left_out: list[LeftOut]) -> None:
        self._folder = folder
        self.files, self.left_out = files, left_out
        self.is_compiled = NEURON_CONFIG in files
        self.faults: list[str] = []
        self.changes: list[str] = []
        self.rewritten: dict[str, bytes] = {}
        self._json: dict[str, dict[str, Any]] = {}
        self._is_served = False

    def check_contents(self) -> None:
        """Look at the first bytes of each file, and parse those that the engine parses."""
        for name, path in self.files.items():
            if name.endswith((".safetensors", ".json", ".model", ".jinja", ".txt")):
                fault = folders.find_content_fault(path, self._folder / name)
                if fault:
                    self.faults.append(fault)
                elif name in _JSON_FILES or name == WEIGHTS_INDEX:
                    values = self._try(self._parse, name)
                    if values is not None:
                        self._json[name] = values

    def _parse(self, name: str) -> dict[str, Any]:
        return folders.read_json(self.files[name], self._folder / name)

    def _try(self, read: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return read(*arguments)
        except CheckpointError as error:
            self.faults.append(str(error))
            return None

    def read_config(self, *, compiles: bool, sequence_length: int | None) -> Mapping[str, Any]:
        """Rewrite ``config.json`` for the image, and check it."""
        config = self._rewritten(MODEL_CONFIG, *configs.rewrite(self._json.get(MODEL_CONFIG, {})))
        if config and not self.is_compiled:
            where = str(self._folder / MODEL_CONFIG)
            faults = configs.find_faults(config, where, compiles=compiles, sequence_length=sequence_length)
            self._is_served = not faults
            self.faults += faults
        return config

    def _rewritten(self, name: str, values: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        """Note what becomes of a file, and return its values."""
        if changes:
            self.changes += [f"{name}: {change}" for change in changes]
            text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
            self.rewritten[name] = f"{text}\n".encode()
        return values

    def read_tensors(self, config: Mapping[str, Any]) -> Tensors:
        """Read the headers of the weights, and compare them with the configuration."""
        where = str(self._folder)
        if self.is_compiled:
            shards = [path for name, path in self.files.items() if name.endswith(".safetensors")]
            self._try(weights.read_tensors, shards)
            return Tensors()
        names = self._weight_names()
        paths = {name: self.files[name] for name in names if name in self.files}
        if len(paths) < len(names) or any(
            str(self._folder / name) in fault for name in names for fault in self.faults
        ):
            return Tensors()
        tensors = self._try(weights.read_tensors, list(paths.values()))
        if tensors is None:
            return Tensors()
        if quantized := weights.find_quantization(tensors):
            self.faults.append(configs.quantized(where, f"quantized ({quantized})"))
        elif self._is_served and (fault := weights.find_fault(tensors, config, where)):
            self.faults.append(fault)
        return tensors

    def _weight_names(self) -> list[str]:
        """Return the names of the weight files, and leave out those that the index does not name."""
        if WEIGHTS in self.files:
            return [WEIGHTS]
        weight_map = self._json.get(WEIGHTS_INDEX, {}).get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            self.faults.append(f"{self._folder / WEIGHTS_INDEX} names no weights; save the model again")
            return []
        names = sorted({str(name) for name in weight_map.values()})
        missing = [name for name in names if name not in self.files]
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self.faults.append(
                f"{self._folder} lacks {missing[0]}{others}, of the {len(names)} files that its "
                f"{WEIGHTS_INDEX} names; fetch them, or save the model again with save_pretrained"
            )
        for name in [name for name in self.files if name.endswith(".safetensors") and name not in names]:
            size = self.files.pop(name).stat().st_size
            self.left_out.append(LeftOut(name, f"weights that {WEIGHTS_INDEX} does not name", 1, size))
        return names

    def read_tokenizer(self, tensors: Tensors) -> tuple[int | None, bool]:
        """Check the tokenizer, and return the number of its ids, and whether there is a chat template."""
        if fault := tokenizer.find_fault(frozenset(self.files), str(self._folder)):
            self.faults.append(fault)
            return None, False
        rewritten = tokenizer.rewrite(self._json.get(tokenizer.CONFIG, {}), self._json.get(TOKENIZER, {}))
        config = self._rewritten(tokenizer.CONFIG, *rewritten)
        if fault := tokenizer.find_config_fault(config, str(self._folder / tokenizer.CONFIG)):
            self.faults.append(fault)
        has_template = _TEMPLATE in self.files or bool(config.get("chat_template"))
        if _TEMPLATE in self.files and not _is_text(self.files[_TEMPLATE]):
            self.faults.append(f"{self._folder / _TEMPLATE} is not text in UTF-8; save it again as UTF-8")
        has_template = has_template or any(name.startswith(layout.CHAT_TEMPLATES) for name in self.files)
        try:
            count = tokenizer.count_tokens(self._json.get(TOKENIZER, {}))
        except (KeyError, TypeError, ValueError):
            if TOKENIZER in self._json:
                self.faults.append(
                    f"{self._folder / TOKENIZER} holds no vocabulary; save the tokenizer again"
                )
            return None, has_template
        if fault := tokenizer.find_unreadable(self.files[TOKENIZER], self._folder / TOKENIZER):
            self.faults.append(fault)
        rows = tensors.vocabulary
        if rows is not None and count > rows:
            self.faults.append(
                f"the tokenizer of {self._folder} has {count:,} tokens and its embeddings have {rows:,} "
                f"rows; save the model again after model.resize_token_embeddings({count})"
            )
        return count, has_template


def check_config(config: Mapping[str, Any], where: str, *, compiles: bool = True) -> Mapping[str, Any]:
    """Check a ``config.json`` alone, such as that of a repository before its weights are fetched.

    Args:
        config: The file's values.
        where: Its name in the sentence.
        compiles: Whether the model is to be compiled for Neuron.

    Returns:
        The values as the image reads them.

    Raises:
        CheckpointError: with the first reason why the model cannot be served.
    """
    values, _changes = configs.rewrite(config)
    faults = configs.find_faults(values, where, compiles=compiles)
    if faults:
        raise CheckpointError(faults[0])
    return values


def _is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return True
