"""The Hugging Face hub: fetch weights, push compiled models. The token is never passed on or printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit.errors import CompileError

#: The files of a repository that a model needs: weights as safetensors, configuration, tokenizer.
_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer*", "*.model", "*.jinja"]
_INSTALL = "pip install huggingface_hub"
#: Every token of the hub begins with it.
TOKEN_PREFIX = "hf_"  # noqa: S105 - a prefix, no token


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine's disk.

    Attributes:
        path: The folder of weights and tokenizer.
        revision: The commit on the hub that it comes from; None where that is not known.
    """

    path: Path
    revision: str | None


def check_token(model: str, *, gated: bool) -> None:
    """Refuse a gated model without a token, before anything is fetched.

    Raises:
        CompileError: there is no token; the message tells how to get one.
    """
    if gated and not _hub().get_token():
        raise CompileError(
            f"{model} is gated: accept its licence on its page of the Hugging Face hub, and log in with "
            "'hf auth login' or set HF_TOKEN"
        )


def fetch(model: str, revision: str | None, token: str | None = None) -> ModelFolder:
    """Fetch a model's weights and tokenizer, or take them from the hub's cache.

    Args:
        model: A name on the hub, or a folder, which is returned as it is.
        revision: A commit, branch or tag of the model on the hub.
        token: A token instead of the one that the user has logged in with.

    Raises:
        CompileError: the model cannot be fetched, or has no safetensors.
    """
    if Path(model).is_dir():
        return ModelFolder(Path(model), revision)
    hub = _hub()
    try:
        folder = Path(hub.snapshot_download(model, revision=revision, allow_patterns=_PATTERNS, token=token))
    except Exception as error:  # the hub's client raises its own, requests' and the system's
        reason = str(error).partition("\n")[0]
        raise CompileError(
            f"{model} cannot be fetched from the Hugging Face hub ({reason}); check its name and the "
            "network, or give --model the folder of a copy"
        ) from None
    if not list(folder.glob("*.safetensors")):
        raise CompileError(
            f"{model} has no weights as safetensors; choose a revision that has, or save them so with "
            "transformers"
        )
    # The hub's cache names a snapshot's folder by its commit.
    return ModelFolder(folder, folder.name)


def cache_folder() -> Path:
    """Return the folder that the hub's client fetches models into."""
    _hub()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_cached(model: str, revision: str | None) -> bool:
    """Return whether the hub's cache holds weights of a model."""
    try:
        folder = Path(_hub().snapshot_download(model, revision=revision, local_files_only=True))
    except Exception:  # not cached, or not a model's name; the client's own exceptions
        return False
    return bool(list(folder.glob("*.safetensors")))


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Push a compiled model to the hub, as optimum-neuron does, and return its address.

    The weights are not pushed: the configuration names the base model and its revision, and whoever loads the
    compiled model needs access to that.

    Args:
        folder: The compiled model.
        repository: Its name on the hub; created where it does not exist.
        public: Whether everybody may read it: a configuration, a tokenizer and graphs.

    Raises:
        CompileError: the hub refuses, or the repository is public and ``public`` is false.
    """
    hub = _hub()
    api: Any = hub.HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True, private=not public)
        if not public and not api.model_info(repository).private:
            raise CompileError(
                f"everybody may read {repository}; add --public if that is meant, or make it private first"
            )
        api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=["checkpoint/*"])
    except CompileError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CompileError(
            f"the compiled model cannot be pushed to {repository} ({reason}); log in with 'hf auth login' as "
            "a user who may write there, and run the same command again: the compiled model is kept"
        ) from None
    return str(address)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise CompileError(f"huggingface_hub is not installed here; {_INSTALL}") from None
    return huggingface_hub
