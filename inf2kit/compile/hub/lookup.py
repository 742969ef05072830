"""Find a model on the hub: its commit and its files. Nothing is downloaded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from inf2kit.checkpoint import Layout, kinds, sort_files, tokenizer
from inf2kit.compile.hub.client import is_offline, load_client, timeout_s
from inf2kit.compile.hub.failures import explain, header_of, status_of
from inf2kit.errors import CheckpointError, CompileError
from inf2kit.serving.model_dir import (
    MODEL_CONFIG,
    SENTENCEPIECE_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
)

Progress = Callable[[str], None]
_Result = TypeVar("_Result")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRIES = 5
#: Seconds before the second try; each further one waits twice as long.
_FIRST_WAIT_S = 1.0
_MAX_WAIT_S = 60.0


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine's disk.

    Attributes:
        path: The folder of weights and tokenizer.
        revision: The commit on the hub that it comes from; None where that is not known.
    """

    path: Path
    revision: str | None


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, at one commit.

    Attributes:
        model: ``OWNER/NAME``.
        revision: The commit, branch or tag that was asked for; ``main`` by default.
        commit: The commit that it is now.
        files: All files with their bytes; 0 where the hub does not say.
        gated: Whether its files are for accounts only that have accepted its licence.
        token: The token to read it with, instead of the one that the user has logged in with.
    """

    model: str
    revision: str
    commit: str
    files: Mapping[str, int]
    gated: bool
    token: str | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """The model and its revision, for a sentence."""
        return f"{self.model} at {self.revision}"

    @property
    def layout(self) -> Layout:
        """The files that a package would hold, and all others.

        Raises:
            CheckpointError: the files cannot be a model's.
        """
        if fault := kinds.find_fault(self.files, self.model):
            raise CheckpointError(fault)
        layout = sort_files(self.files)
        if fault := tokenizer.find_fault(frozenset(layout.packaged), self.model):
            raise CheckpointError(fault)
        return layout

    @property
    def needed(self) -> dict[str, int]:
        """The files that a package would hold, with their bytes.

        Raises:
            CheckpointError: the files cannot be a model's.
        """
        return {name: self.files[name] for name in self.layout.packaged}


def find(
    model: str, revision: str | None, progress: Progress = lambda _: None, *, token: str | None = None
) -> HubModel:
    """Ask the hub for a model's commit and files.

    Args:
        model: ``OWNER/NAME``.
        revision: A commit, branch or tag; ``main`` by default.
        progress: Called before each further try with the reason for it.
        token: A token instead of the one that the user has logged in with.

    Raises:
        HubUnreachableError: the hub does not answer, or cannot answer now.
        CompileError: there is no such model or revision, or the token may not read it.
    """
    api = load_client().HfApi(token=token)

    def ask() -> HubModel:
        info = api.model_info(model, revision=revision, files_metadata=True, timeout=timeout_s())
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if info.sha is None:
            raise KeyError("sha")
        return HubModel(model, revision or "main", info.sha, files, bool(info.gated), token)

    try:
        return retry(ask, progress)
    except Exception as error:  # the client raises its own, requests' and the system's
        if status_of(error) in (401, 404) and _is_dataset(model, token):
            raise CompileError(
                f"{model} is a dataset of the Hugging Face hub; give a model, OWNER/NAME"
            ) from None
        raise explain(error, model, revision, token=token) from None


def find_local_copy(model: str, revision: str | None) -> ModelFolder | None:
    """Return the whole copy of a model in the hub's cache; None if there is none, or only a part of it."""
    try:
        folder = Path(load_client().snapshot_download(model, revision=revision, local_files_only=True))
    except Exception:  # not cached, or not a model's name; the client's own exceptions
        return None
    # The cache names a snapshot's folder by its commit.
    return ModelFolder(folder, folder.name) if _is_whole(folder) else None


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is a whole commit, which is the same tomorrow."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def retry(
    call: Callable[[], _Result],
    progress: Progress,
    *,
    is_transient: Callable[[Exception], bool] = lambda _: False,
    count_done: Callable[[], int] = lambda: 0,
) -> _Result:
    """Call the hub, and call again where it is busy or failing.

    Args:
        call: The call.
        progress: Called before each further try with the reason for it.
        is_transient: Says of an exception without an answer of the hub whether another try may help.
        count_done: Counts what the calls have brought so far. Where that grows, the tries begin anew.
    """
    number, done = 0, count_done()
    while True:
        try:
            return call()
        except Exception as error:
            if count_done() > done:
                number, done = 0, count_done()
            status = status_of(error)
            may_help = is_transient(error) if status is None else status == 429 or status >= 500
            wait_s = _requested_wait_s(error)
            if wait_s is None:
                wait_s = _FIRST_WAIT_S * 2**number
            if not may_help or is_offline() or number == _TRIES - 1 or wait_s > _MAX_WAIT_S:
                raise
            reason = f"the hub answers {status}" if status else "the connection has ended"
            progress(f"{reason}; trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            number += 1


def _is_whole(folder: Path) -> bool:
    """Whether a folder has all files of a model: the cache may hold some of them only."""
    if not (folder / MODEL_CONFIG).exists():
        return False
    if not any((folder / name).exists() for name in (TOKENIZER, SENTENCEPIECE_TOKENIZER)):
        return False
    if (folder / WEIGHTS).exists():
        return True
    try:
        index = json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
        return all((folder / str(name)).exists() for name in index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _requested_wait_s(error: Exception) -> float | None:
    """Return the seconds to wait that the hub asks for, in either of two headers; None if it does not."""
    seconds = re.fullmatch(r"\d+", header_of(error, "retry-after").strip())
    reset = re.search(r"\bt=(\d+)", header_of(error, "ratelimit"))
    return float(seconds[0]) if seconds else float(reset[1]) if reset else None


def _is_dataset(model: str, token: str | None) -> bool:
    try:
        load_client().HfApi(token=token).dataset_info(model, timeout=timeout_s())
    except Exception:  # no dataset either, or no answer: the first error is the one to report
        return False
    return True
