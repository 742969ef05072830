"""The hub's client, imported when it is needed, and its settings."""

from __future__ import annotations

from typing import Any

from inf2kit.errors import CompileError
from inf2kit.extras import install_command


class HubUnreachableError(CompileError):
    """The hub does not answer, or cannot answer now: a copy in its cache may do."""


def load_client() -> Any:
    """Import and return ``huggingface_hub``.

    Raises:
        HubUnreachableError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise HubUnreachableError(
            "the Hugging Face hub's client, huggingface_hub, is not installed; run: "
            f"{install_command('local')}"
        ) from None
    return huggingface_hub


def endpoint() -> str:
    """Return the address of the hub that the client calls: ``HF_ENDPOINT``, or its own."""
    load_client()
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def timeout_s() -> float:
    """Return the seconds that the hub has for an answer: ``HF_HUB_ETAG_TIMEOUT``, 10 by default."""
    load_client()
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT)


def is_offline() -> bool:
    """Return whether the client may not call the hub (``HF_HUB_OFFLINE``)."""
    load_client()
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
