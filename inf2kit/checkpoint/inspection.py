"""What is known about a model's folder before anything is packaged, compiled or sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.checkpoint.layout import LeftOut
from inf2kit.checkpoint.tensors import Tensors
from inf2kit.errors import CheckpointError

#: Names in a line of what is left out.
_NAMED = 8


@dataclass(frozen=True)
class Inspection:
    """What a model's folder holds, what is wrong with it, and what becomes of it in a package.

    Attributes:
        folder: The folder.
        files: The file on this machine of each path that a package holds, before ``rewritten``.
        left_out: Files and folders that a package does not hold, largest first.
        rewritten: The content of files that a package holds in another form, by path.
        changes: What is rewritten, in words.
        faults: What is wrong, each a sentence that says what to do. Nothing can be packaged or compiled then.
        config: The values of ``config.json`` as the image reads them; empty where there are none.
        tensors: The weights' tensors; none of a compiled model.
        vocabulary: The number of ids of the tokenizer; None where it is not known.
        has_chat_template: Whether chats can be answered.
        is_compiled: Whether the folder holds a model that is compiled for Neuron.
    """

    folder: Path
    files: Mapping[str, Path]
    left_out: tuple[LeftOut, ...]
    rewritten: Mapping[str, bytes]
    changes: tuple[str, ...]
    faults: tuple[str, ...]
    config: Mapping[str, Any]
    tensors: Tensors
    vocabulary: int | None
    has_chat_template: bool
    is_compiled: bool

    @property
    def size(self) -> int:
        """Bytes of the files that a package holds."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def model_type(self) -> str:
        """The family of the model, as transformers names it."""
        return str(self.config.get("model_type"))

    def check(self) -> None:
        """Refuse a folder that cannot be served.

        Raises:
            CheckpointError: with the first fault.
        """
        if self.faults:
            others = f" (and {len(self.faults) - 1} more: see --dry-run)" if len(self.faults) > 1 else ""
            raise CheckpointError(f"{self.faults[0]}{others}")

    def lines(self) -> list[str]:
        """Return what a user should know before anything is sent, for ``--dry-run``."""
        written_by = self.config.get("transformers_version")
        version = catalog.image().versions["transformers"]
        lines = [f"{self.folder}: {self._describe()}"]
        if written_by:
            lines.append(f"  written by transformers {written_by}; the endpoint has {version}")
        if self.vocabulary is not None:
            template = (
                "a chat template" if self.has_chat_template else "no chat template, so chats are refused"
            )
            lines.append(f"  tokenizer of {self.vocabulary:,} tokens, {template}")
        lines += [f"  rewritten: {change}" for change in self.changes]
        for reason in dict.fromkeys(entry.reason for entry in self.left_out):
            entries = [entry for entry in self.left_out if entry.reason == reason]
            lines.append(f"  left out, {reason}: {', '.join(_describe_left_out(entries))}")
        return [*lines, *(f"  wrong: {fault}" for fault in self.faults)]

    def _describe(self) -> str:
        kind = self.model_type if self.config else "a folder"
        if self.is_compiled:
            return f"{kind}, compiled for Neuron, {len(self.files)} files, {format_size(self.size)}"
        if not self.tensors.shapes:
            return f"{kind}, {len(self.files)} files, {format_size(self.size)}"
        return (
            f"{kind}, {self.tensors.parameters / 1e9:.2f} G parameters in {self.tensors.dtype}, "
            f"{len(self.files)} files, {format_size(self.size)}"
        )

    def write(self, target: Path) -> Path:
        """Write the folder as a package holds it, with links to its files.

        Args:
            target: A folder that does not exist yet.
        """
        for name, path in self.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if name in self.rewritten:
                (target / name).write_bytes(self.rewritten[name])
            else:
                try:
                    (target / name).symlink_to(path)
                except OSError:  # a file system without links
                    shutil.copyfile(path, target / name)
        return target


def format_size(count: int) -> str:
    """Return bytes in the unit that a person reads best."""
    if count >= 10**9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 10**5 else f"{count / 1e3:.1f} kB"


def _describe_left_out(entries: Sequence[LeftOut]) -> Iterator[str]:
    """Name the largest, and count the others."""
    for entry in entries[:_NAMED]:
        files = f"{entry.files} files, " if entry.files > 1 else ""
        yield f"{entry.name} ({files}{format_size(entry.size)})"
    others = entries[_NAMED:]
    if others:
        count = sum(entry.files for entry in others)
        yield f"and {count} files more ({format_size(sum(entry.size for entry in others))})"
