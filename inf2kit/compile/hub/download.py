"""Download what a model needs into the hub's cache. What was interrupted continues where it stopped."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inf2kit.checkpoint import check_config
from inf2kit.compile import disk_space
from inf2kit.compile.hub.client import HubUnreachableError, is_offline, load_client
from inf2kit.compile.hub.failures import explain, status_of
from inf2kit.compile.hub.lookup import (
    HubModel,
    ModelFolder,
    find,
    find_local_copy,
    is_commit,
    retry,
)
from inf2kit.errors import CompileError
from inf2kit.serving.model_dir import MODEL_CONFIG

Progress = Callable[[str], None]

#: The hub's client begins so where a file has not the size that the hub has named for it.
_WRONG_SIZE = "Consistency check failed"
#: The whole of an incomplete file, or more, was asked for.
_RANGE_NOT_SATISFIABLE = 416


def cache_folder() -> Path:
    """Return the folder that the hub's client downloads into."""
    load_client()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def read_local_copy(
    model: str, revision: str | None, reason: HubUnreachableError, progress: Progress
) -> ModelFolder:
    """Return the copy of a model in the hub's cache, for want of the hub.

    Args:
        model: ``OWNER/NAME``.
        revision: A commit, branch or tag; ``main`` by default.
        reason: Why the hub cannot be asked.
        progress: Called with that, and with the copy's commit.

    Raises:
        HubUnreachableError: there is no copy, or only a part of one.
    """
    load_client()
    if copy := find_local_copy(model, revision):
        progress(f"{reason}; taking the copy of commit {copy.revision} in {cache_folder()}")
        return copy
    where = f"{cache_folder()} has no whole copy of {model}" + (f" at {revision}" if revision else "")
    if is_offline():
        raise HubUnreachableError(
            f"HF_HUB_OFFLINE is set, and {where}; unset it, or give --model the folder of a copy"
        )
    raise HubUnreachableError(f"{reason}; and {where}")


def read_config(
    model: HubModel, progress: Progress = lambda _: None, *, keep: bool = True
) -> Mapping[str, Any]:
    """Read a model's ``config.json``, before anything else is downloaded.

    Args:
        model: The model.
        progress: Called with the reason for a further try.
        keep: Whether the file goes into the hub's cache.

    Raises:
        CompileError: it cannot be downloaded, or the model has none.
    """
    where = f"{MODEL_CONFIG} of {model.where}"
    if MODEL_CONFIG not in model.needed:
        raise CompileError(f"there is no {where}, so it is not a model of transformers; choose one that is")
    with tempfile.TemporaryDirectory() as folder:
        if keep:
            # By the revision's own name: the cache then knows offline which commit it is.
            _fetch_file(model, MODEL_CONFIG, model.revision, progress)
            path = _fetch_file(model, MODEL_CONFIG, model.commit, progress)
        else:
            path = _fetch_file(model, MODEL_CONFIG, model.commit, progress, local_dir=folder)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CompileError(f"{where} is not JSON ({error}); choose another revision") from None
    if not isinstance(values, dict):
        raise CompileError(f"{where} is not a JSON object; choose another revision")
    return values


def missing_bytes(model: HubModel) -> int:
    """Return the bytes of a model that are not in the hub's cache."""
    client = load_client()

    def is_cached(name: str) -> bool:
        return isinstance(client.try_to_load_from_cache(model.model, name, revision=model.commit), str)

    return sum(size for name, size in model.needed.items() if not is_cached(name))


def download(model: HubModel, progress: Progress = lambda _: None) -> ModelFolder:
    """Download what a model needs, one file after the other.

    A thread cannot be ended. With one file at a time in the caller's own thread, Ctrl-C and an error end the
    download at once, and leave what has come for the next try.

    Raises:
        CompileError: a file cannot be downloaded, or there is no room for it.
    """
    disk_space.check_room({cache_folder(): missing_bytes(model)}, f"downloading {model.model}")
    paths = {name: _fetch_file(model, name, model.commit, progress) for name in model.needed}
    return ModelFolder(paths[MODEL_CONFIG].parent, model.commit)


def fetch(
    model: str, revision: str | None, progress: Progress = lambda _: None, *, token: str | None = None
) -> ModelFolder:
    """Find a model and download it, or take it from the hub's cache if the hub cannot be asked.

    Args:
        model: ``OWNER/NAME``, or a folder, which is returned as it is.
        revision: A commit, branch or tag; ``main`` by default.
        progress: Called with each step.
        token: A token instead of the one that the user has logged in with.

    Raises:
        CompileError: the model cannot be found, downloaded or served.
    """
    if Path(model).is_dir():
        return ModelFolder(Path(model), revision)
    if is_commit(revision) and (copy := find_local_copy(model, revision)):
        return copy
    try:
        remote = find(model, revision, progress, token=token)
    except HubUnreachableError as reason:
        return read_local_copy(model, revision, reason, progress)
    check_config(read_config(remote, progress), remote.where, compiles=False)
    return download(remote, progress)


def _fetch_file(
    model: HubModel, name: str, revision: str, progress: Progress, *, local_dir: str | None = None
) -> Path:
    """Download a file, unless the cache has it; return its path in the snapshot."""
    client = load_client()
    options: dict[str, Any] = {"revision": revision, "token": model.token, "local_dir": local_dir}

    def get() -> Path:
        try:
            return Path(client.hf_hub_download(model.model, name, **options))
        except Exception as error:
            is_damaged = status_of(error) == _RANGE_NOT_SATISFIABLE or str(error).startswith(_WRONG_SIZE)
            if not is_damaged or "force_download" in options:
                raise
            # What has come so far is not the file's beginning: no further try could continue it.
            progress(f"{name} has come damaged; fetching it anew")
            options["force_download"] = True
            return Path(client.hf_hub_download(model.model, name, **options))

    def count_done() -> int:
        blobs = cache_folder() / f"models--{model.model.replace('/', '--')}" / "blobs"
        return sum(path.stat().st_size for path in blobs.glob("*.incomplete"))

    try:
        return retry(get, progress, is_transient=_is_connection_lost, count_done=count_done)
    except Exception as error:  # the client raises its own, requests' and the system's
        raise explain(error, model.model, revision, token=model.token) from None


def _is_connection_lost(error: Exception) -> bool:
    import requests

    lost = (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.Timeout,
    )
    return isinstance(error, lost) or isinstance(error.__cause__, lost)
