"""Packages that nothing uses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

from inf2kit.package import ListedPackage

#: A package that was touched since then may be being published, or about to be deployed.
_AGE = dt.timedelta(hours=1)


def split_unused(
    packages: Iterable[ListedPackage], deleted_models: Collection[str], now: dt.datetime
) -> tuple[list[ListedPackage], list[ListedPackage]]:
    """Select the packages that no model uses but those which are deleted too.

    Args:
        packages: The packages of a place.
        deleted_models: Names of the models that are deleted before.
        now: The time, with its time zone.

    Returns:
        Those that may be deleted, and those that are too new.
    """
    unused = [package for package in packages if set(package.used_by) <= set(deleted_models)]
    new = [package for package in unused if now - package.stored.touched <= _AGE]
    return [package for package in unused if package not in new], new
