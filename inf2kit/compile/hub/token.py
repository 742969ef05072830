"""The hub's token: where it comes from, and what to do without one."""

from __future__ import annotations

import os

from inf2kit.errors import CompileError

#: Every token of the hub begins with it.
TOKEN_PREFIX = "hf_"  # noqa: S105 - a prefix, no token
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def read_token() -> str | None:
    """Return the token that the user has set or logged in with; None without one."""
    import huggingface_hub

    return huggingface_hub.get_token()


def token_origin() -> str:
    """Name the variable or file that the token comes from."""
    from huggingface_hub import constants

    name = next((name for name in _VARIABLES if os.environ.get(name, "").strip()), None)
    return name or f"that of 'hf auth login' in {constants.HF_TOKEN_PATH}"


def check_token(model: str) -> None:
    """Refuse to fetch a gated model without a token.

    Raises:
        CompileError: there is no token; the message tells how to get one.
    """
    from inf2kit.compile.hub.client import endpoint

    if not read_token():
        raise CompileError(
            f"{model} is gated: accept its licence at {endpoint()}/{model}, and set HF_TOKEN to a token of "
            "that account, or log in with 'hf auth login'"
        )
