"""The Hugging Face hub: weights from it, compiled models to it. The token is read, never passed on or
printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inf2kit.errors import CompileError

#: What a model needs of its repository: weights as safetensors, configuration, tokenizer.
_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer*", "*.model", "*.jinja"]
_INSTALL = "pip install huggingface_hub"
#: Every token of the hub begins so.
TOKEN_PREFIX = "hf_"  # noqa: S105 - a prefix, no token


def check_token(model: str, *, gated: bool) -> None:
    """Refuse a gated model without a token, before anything is fetched.

    Raises:
        CompileError: saying how to get one.
    """
    if gated and not _hub().get_token():
        raise CompileError(
            f"{model} is gated: accept its licence on its page of the Hugging Face hub, and log in with "
            "'hf auth login' or set HF_TOKEN"
        )


def fetch(model: str, revision: str | None, token: str | None = None) -> tuple[Path, str | None]:
    """A folder with the model's weights and tokenizer, and its exact revision; from the hub's cache where it
    is there.

    Args:
        model: A name on the hub, or a folder, which is taken as it is.
        revision: A commit, branch or tag of the model on the hub.
        token: Instead of the one that the user has logged in with.

    Raises:
        CompileError: it cannot be fetched.
    """
    if Path(model).is_dir():
        return Path(model), revision
    hub = _hub()
    try:
        folder = Path(hub.snapshot_download(model, revision=revision, allow_patterns=_WANTED, token=token))
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
    # The folder of a snapshot is named by its commit.
    return folder, folder.name


def cache() -> Path:
    """The folder that models of the hub are fetched into."""
    _hub()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_cached(model: str, revision: str | None) -> bool:
    """Whether something of a model's weights was fetched before."""
    try:
        folder = Path(_hub().snapshot_download(model, revision=revision, local_files_only=True))
    except Exception:  # the client's own kinds: nothing is there, or it is no name of a model
        return False
    return bool(list(folder.glob("*.safetensors")))


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Put a compiled model on the hub, as optimum-neuron does; its address.

    Weights stay where they are from: the graphs name the base model and its revision. Whoever loads it needs
    access to that one.

    Args:
        folder: The compiled model.
        repository: Its name on the hub; made where it is not there.
        public: Whether everybody may read it: a configuration, a tokenizer and graphs.

    Raises:
        CompileError: it cannot be put there, or everybody may read what is there.
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
            "somebody who may write there, and run the same command again: what is compiled is kept"
        ) from None
    return str(address)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise CompileError(f"huggingface_hub is not installed here; {_INSTALL}") from None
    return huggingface_hub
