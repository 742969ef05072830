"""The Hugging Face hub: find a model, download what is needed of it, push compiled models.

The token is passed on to the hub only, and never printed or stored.
"""

from inf2kit.compile.hub.client import HubUnreachableError
from inf2kit.compile.hub.download import (
    cache_folder,
    download,
    fetch,
    missing_bytes,
    read_config,
    read_local_copy,
)
from inf2kit.compile.hub.failures import redact
from inf2kit.compile.hub.lookup import HubModel, ModelFolder, find, find_local_copy, is_commit
from inf2kit.compile.hub.push import check_push, push
from inf2kit.compile.hub.reference import ModelReference
from inf2kit.compile.hub.token import TOKEN_PREFIX, check_token

__all__ = [
    "TOKEN_PREFIX",
    "HubModel",
    "HubUnreachableError",
    "ModelFolder",
    "ModelReference",
    "cache_folder",
    "check_push",
    "check_token",
    "download",
    "fetch",
    "find",
    "find_local_copy",
    "is_commit",
    "missing_bytes",
    "push",
    "read_config",
    "read_local_copy",
    "redact",
]
