"""What is done with packages that are there: verify, list, prune."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError
from inf2kit.package.manifest import Entry, Manifest
from inf2kit.package.s3 import S3Store
from inf2kit.package.store import Store, Stored
from inf2kit.packaged import MANIFEST

_THREADS = 8


def verify(store: Store, digest: str) -> Manifest:
    """Read every byte of a package and compare it with its manifest.

    Raises:
        PackageError: naming the first file that is missing or differs.
    """
    where = store.where(digest)
    content = store.manifest(digest)
    if content is None:
        raise PackageError(
            f"{where} holds no manifest, so it is no package or not a whole one; run 'inf2kit package' again"
        )
    found = Manifest.parse(content, f"{where}{MANIFEST}")
    if found.digest != digest:
        raise PackageError(
            f"the manifest in {where} is that of {found.digest}: it was changed; make the package again"
        )

    def wrong(item: tuple[str, Entry]) -> str:
        name, entry = item
        sha256, size = hashlib.sha256(), 0
        try:
            for block in store.read(digest, name):
                sha256.update(block)
                size += len(block)
        except FileNotFoundError:
            return f"{name} is missing"
        if size != entry.size:
            return f"{name} has {size:,} bytes instead of {entry.size:,}"
        return "" if sha256.hexdigest() == entry.sha256 else f"{name} was changed: its sha256 differs"

    with ThreadPoolExecutor(_THREADS) as pool:
        faults = [fault for fault in pool.map(wrong, found.files.items()) if fault]
    faults += [f"{name} is not part of it" for name in sorted(store.unexpected(digest, found.files))]
    if faults:
        others = f" ({len(faults) - 1} more files are wrong)" if len(faults) > 1 else ""
        raise PackageError(
            f"the package {where} is damaged: {faults[0]}{others}; delete the whole of it, and make it again"
        )
    return found


@dataclass(frozen=True)
class Listed:
    """A package in a list.

    Attributes:
        stored: What is there.
        preset: It was made for; empty while it is not whole.
        used_by: SageMaker models that load it.
    """

    stored: Stored
    preset: str
    used_by: tuple[str, ...]


def listed(store: Store) -> list[Listed]:
    """The packages of a store, newest first, and who uses them.

    Raises:
        PackageError: the store or SageMaker cannot be asked.
    """
    users = _users(store)
    return [
        Listed(each, _preset(store, each), tuple(users.get(store.where(each.digest), ())))
        for each in store.packages()
    ]


def to_prune(
    packages: Collection[Listed], *, keep: int, older_than: dt.timedelta, now: dt.datetime
) -> list[Listed]:
    """The packages that nobody needs: not used, not the newest of their preset, and not just being made.

    Args:
        packages: Newest first.
        keep: How many whole ones of each preset stay in any case, so that one can go back.
        older_than: What was touched since then stays: it may be on its way, or about to be deployed.
        now: With its time zone.
    """
    found, kept = [], dict.fromkeys({each.preset for each in packages}, 0)
    for each in packages:
        kept[each.preset] += each.stored.whole
        spare = kept[each.preset] > keep or not each.stored.whole
        if spare and not each.used_by and now - each.stored.touched > older_than:
            found.append(each)
    return found


def _preset(store: Store, package: Stored) -> str:
    content = store.manifest(package.digest) if package.whole else None
    if content is None:
        return ""
    try:
        return Manifest.parse(content, store.where(package.digest)).preset_name
    except PackageError:
        return "?"


def _users(store: Store) -> dict[str, list[str]]:
    """SageMaker's models by the prefix they load: those of now, and those that a rollback returns to."""
    if not isinstance(store, S3Store):
        return {}
    found: dict[str, list[str]] = {}
    with aws.errors(PackageError, "asking SageMaker which packages its models use"):
        # In the bucket's own region, whatever the user's is: only models there can load its packages.
        sagemaker = aws.client("sagemaker", store.bucket_region())
        for page in sagemaker.get_paginator("list_models").paginate():
            for model in page["Models"]:
                try:
                    description = sagemaker.describe_model(ModelName=model["ModelName"])
                except sagemaker.exceptions.ClientError as error:
                    if "Could not find" in str(error):  # deleted since it was listed
                        continue
                    raise
                for uri in _uris(description):
                    found.setdefault(uri.rstrip("/") + "/", []).append(model["ModelName"])
    return found


def _uris(description: dict[str, Any]) -> Iterator[str]:
    for container in (description.get("PrimaryContainer") or {}, *description.get("Containers", ())):
        uri = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        if uri or container.get("ModelDataUrl"):
            yield uri or container["ModelDataUrl"]
