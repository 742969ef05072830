"""Push a compiled model to the hub, as optimum-neuron does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inf2kit.compile.hub.client import HubUnreachableError, endpoint, load_client, timeout_s
from inf2kit.compile.hub.failures import explain, status_of
from inf2kit.compile.hub.reference import ModelReference
from inf2kit.compile.hub.token import read_token, token_origin
from inf2kit.errors import CompileError
from inf2kit.serving.model_dir import NEURON_CONFIG

#: Files that the hub itself puts into a new repository.
_HUBS_OWN = (".gitattributes", "README.md")
#: The weights stay with the base model; hidden files are inf2kit's own notes.
_NOT_PUSHED = ["checkpoint/*", ".*"]


def check_push(repository: str, *, public: bool) -> None:
    """Check what can be known before hours of work: the token, its rights, and what is there already.

    Args:
        repository: ``OWNER/NAME`` on the hub.
        public: Whether everybody may read it.

    Raises:
        CompileError: the push would be refused, would be read by everybody without ``public``, or would write
            over another model.
    """
    reference = ModelReference.parse(repository)
    if reference.model != repository or "/" not in repository or reference.revision:
        raise CompileError(f"--push-to-hub is {repository!r}; give the repository's name, OWNER/NAME")
    client = load_client()
    if not read_token():
        raise CompileError(
            f"pushing to {repository} needs a token that may write: set HF_TOKEN, or log in with "
            "'hf auth login'"
        )
    api: Any = client.HfApi()
    try:
        account = api.whoami()
        owners = [account["name"], *(organization["name"] for organization in account.get("orgs", ()))]
        role = account.get("auth", {}).get("accessToken", {}).get("role")
    except Exception as error:  # the client raises its own, requests' and the system's
        raise explain(error, repository, None) from None
    if role == "read":
        raise CompileError(
            f"your token ({token_origin()}) may only read; make one that may write at "
            f"{endpoint()}/settings/tokens"
        )
    owner = repository.partition("/")[0]
    if owner not in owners:
        raise CompileError(
            f"{repository} belongs to {owner}, and your token ({token_origin()}) is that of {account['name']}"
            f"; push to one of {', '.join(f'{name}/...' for name in owners)}"
        )
    _check_what_is_there(api, repository, public=public)


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Push a compiled model, and return its address.

    The weights are not pushed: the configuration names the base model and its revision, and whoever loads the
    compiled model needs access to that.

    Args:
        folder: The compiled model.
        repository: ``OWNER/NAME`` on the hub; created where it does not exist.
        public: Whether everybody may read it: a configuration, a tokenizer and graphs.

    Raises:
        CompileError: the hub refuses, the repository holds another model, or it is public and ``public`` is
            false.
    """
    api: Any = load_client().HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True, private=not public)
        _check_what_is_there(api, repository, public=public)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            ignore_patterns=_NOT_PUSHED,
            commit_message="Add the model compiled with inf2kit",
        )
    except Exception as error:
        reason = explain(error, repository, None)
        if reason is error:
            raise
        if status_of(error) in (401, 403):
            reason = CompileError(
                f"your token ({token_origin()}) may not write to {repository}; take one that may"
            )
        kind = HubUnreachableError if isinstance(reason, HubUnreachableError) else CompileError
        raise kind(
            f"{reason}; nothing was pushed, and the compiled model is kept for the same command"
        ) from None
    return str(address)


def _check_what_is_there(api: Any, repository: str, *, public: bool) -> None:
    """Refuse a repository that everybody may read, or that holds another model."""
    try:
        info = api.model_info(repository, timeout=timeout_s())
    except Exception as error:  # the client raises its own, requests' and the system's
        if status_of(error) in (401, 404):
            return  # it does not exist yet
        raise explain(error, repository, None) from None
    if not public and not info.private:
        raise CompileError(
            f"everybody may read {repository}; add --public if that is meant, or make it private first"
        )
    names = [file.rfilename for file in info.siblings or () if file.rfilename not in _HUBS_OWN]
    if names and NEURON_CONFIG not in names:
        raise CompileError(
            f"{repository} exists and holds no compiled model but {', '.join(sorted(names)[:3])}; push to "
            "another name, which writes over nothing"
        )
