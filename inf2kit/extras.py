"""The extras of inf2kit's wheel, and which of them are installed."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


@functools.cache
def requirements() -> Mapping[str, set[str]]:
    """Return the distributions of each extra, from the metadata of the installed inf2kit."""
    by_extra: dict[str, set[str]] = {}
    try:
        lines = metadata.requires("inf2kit") or []
    except metadata.PackageNotFoundError:  # run from its sources
        return by_extra
    for line in lines:
        name, extra = _NAME.match(line), _EXTRA.search(line)
        if name and extra:
            by_extra.setdefault(extra[1], set()).add(normalise(name[0]))
    return by_extra


def missing(extra: str) -> list[str]:
    """Return the distributions of an extra that are not installed, in alphabetical order."""
    return [name for name in sorted(requirements().get(extra, ())) if not _is_distribution(name)]


def is_installed(extra: str) -> bool:
    """Whether every distribution of an extra is installed."""
    return not missing(extra)


def install_command(*extras: str) -> str:
    """Return the command that installs extras: from the checkout, where inf2kit is run from one."""
    checkout = _checkout()
    if checkout is None:
        return f"pip install 'inf2kit[{','.join(extras)}]'"
    place = "." if checkout == Path.cwd() else str(checkout)
    return f"pip install -e '{place}[{','.join(extras)}]'"


def _checkout() -> Path | None:
    """Return the folder that inf2kit is installed from as editable; None if it is installed as a wheel."""
    try:
        record = json.loads(metadata.distribution("inf2kit").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if not record.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(record["url"]).path))


def normalise(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
