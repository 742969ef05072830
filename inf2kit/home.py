"""Where inf2kit keeps what it makes: prepared models and the state of local endpoints."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """``$INF2KIT_HOME``, or ``inf2kit`` in the user's cache folder."""
    given = os.environ.get("INF2KIT_HOME")
    if given:
        return Path(given).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "inf2kit"


def models() -> Path:
    """The folder of prepared models."""
    return home() / "models"


def endpoints() -> Path:
    """The folder of local endpoints, one folder each."""
    return home() / "endpoints"
