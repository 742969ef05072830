"""The folders of inf2kit on this machine: prepared models, local endpoints, copies of manifests."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from inf2kit.errors import LocalEndpointError
from inf2kit.names import is_endpoint_name


def home() -> Path:
    """Return ``$INF2KIT_HOME``, or ``inf2kit`` in the user's cache folder.

    Raises:
        LocalEndpointError: the user has no home.
    """
    try:
        if folder := os.environ.get("INF2KIT_HOME"):
            return Path(folder).expanduser().absolute()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "inf2kit"
    except RuntimeError as error:
        raise LocalEndpointError(f"{str(error).rstrip('.')}; set INF2KIT_HOME to a folder of yours") from None


def models() -> Path:
    """Return the folder of prepared models."""
    return home() / "models"


def bytecode() -> Path:
    """Return the folder for Python's compiled files, which must not lie beside a package's sources."""
    return home() / "bytecode"


def prices() -> Path:
    """Return the file of the prices that the user has refreshed."""
    return home() / "prices.toml"


def calibrations() -> Path:
    """Return the folder of the user's own measurements of presets, which may not exist."""
    return home() / "calibrations"


def calibration(preset: str) -> Path:
    """Return the file of the user's own measurement of a preset, which may not exist."""
    return calibrations() / f"{preset}.toml"


def manifest(digest: str) -> Path:
    """Return the local copy of a package's manifest. With it, ``cdk synth`` needs no network."""
    return home() / "packages" / f"{digest}.json"


def endpoints() -> Path:
    """Return the folder of local endpoints, which has a folder for each of them."""
    return home() / "endpoints"


def endpoint(name: str) -> Path:
    """Return the folder of one local endpoint.

    Raises:
        LocalEndpointError: no endpoint can have this name, and it may be a path to another folder.
    """
    if not is_endpoint_name(name):
        raise LocalEndpointError(
            f"{name!r} cannot be an endpoint's name; "
            "use up to 63 letters and digits, with single '-' between them"
        )
    return endpoints() / name


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can read, and close the home and an existing folder to others.

    A home that is shared on purpose, such as /tmp with its sticky bit, or another user's, stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in (home(), folder):
        status = path.stat() if path.exists() else None
        if status and status.st_uid == os.getuid() and not status.st_mode & stat.S_ISVTX:
            with contextlib.suppress(OSError):  # a file system without modes
                path.chmod(0o700)


def save_manifest(digest: str, content: bytes) -> None:
    """Save the local copy of a package's manifest."""
    path = manifest(digest)
    make_private(path.parent)
    replace_file(path, content)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file at once, so that nobody reads half of it, and a full disk leaves the old one.

    Args:
        path: The file, whose folder must exist. Only its owner can read it.
        content: What to write.
    """
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(scratch).replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        Path(scratch).unlink(missing_ok=True)
