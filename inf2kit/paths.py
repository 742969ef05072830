"""Where inf2kit keeps what it makes: prepared models and the state of local endpoints."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from inf2kit.errors import LocalEndpointError
from inf2kit.names import ENDPOINT_NAME


def home() -> Path:
    """``$INF2KIT_HOME``, or ``inf2kit`` in the user's cache folder."""
    given = os.environ.get("INF2KIT_HOME")
    if given:
        return Path(given).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "inf2kit"


def private(folder: Path) -> None:
    """Make a folder that nobody but its owner looks into; one that is there already is closed to others."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in dict.fromkeys((home(), folder)):
        found = each.stat() if each.exists() else None
        # A home may be put into a folder that many people share, such as /tmp; that one stays as it is.
        if found and found.st_uid == os.getuid() and not found.st_mode & stat.S_ISVTX:
            with contextlib.suppress(OSError):  # a file system without modes
                each.chmod(0o700)


def models() -> Path:
    """The folder of prepared models."""
    return home() / "models"


def bytecode() -> Path:
    """Where the containers' processes keep compiled Python, never beside a package's sources."""
    return home() / "bytecode"


def prices() -> Path:
    """The prices that the user has refreshed."""
    return home() / "prices.toml"


def manifest(digest: str) -> Path:
    """The copy that packaging leaves of a package's manifest, so that a synth needs no network."""
    return home() / "packages" / f"{digest}.json"


def keep_manifest(digest: str, content: bytes) -> None:
    """Leave that copy."""
    path = manifest(digest)
    private(path.parent)
    path.write_bytes(content)


def endpoints() -> Path:
    """The folder of local endpoints, one folder each, with its ``state.json``."""
    return home() / "endpoints"


def endpoint(name: str) -> Path:
    """The folder of one local endpoint.

    Raises:
        LocalEndpointError: the name could not be an endpoint's, and might be a path to somewhere else.
    """
    if not ENDPOINT_NAME.fullmatch(name):
        raise LocalEndpointError(
            f"{name!r} cannot be an endpoint's name; "
            "use up to 63 letters and digits, with single '-' between them"
        )
    return endpoints() / name
