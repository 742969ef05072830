"""What is done with packages that are there: verify, list, prune."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from inf2kit.errors import PackageError
from inf2kit.package.manifest import Entry, Manifest
from inf2kit.package.stores.base import Store, Stored, stranger
from inf2kit.package.stores.s3 import S3Store
from inf2kit.package.usage import SageMaker, Users
from inf2kit.serving.model_dir import MANIFEST

_THREADS = 8
#: Nobody uses a folder's packages: what a local endpoint runs from is a copy.
_NOBODY = Users({}, ())


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
    manifest = Manifest.parse(content, f"{where}{MANIFEST}")
    if manifest.digest != digest:
        raise PackageError(
            f"the manifest in {where} is that of {manifest.digest}: it was changed; make the package again"
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
        faults = [fault for fault in pool.map(wrong, manifest.files.items()) if fault]
    faults += [stranger(name) for name in sorted(store.unexpected(digest, manifest.files))]
    if faults:
        others = f" ({len(faults) - 1} more files are wrong)" if len(faults) > 1 else ""
        raise PackageError(
            f"the package {where} is damaged: {faults[0]}{others}; delete the whole of it, and make it again"
        )
    return manifest


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
    users = sagemaker.users() if (sagemaker := _sagemaker(store)) else _NOBODY
    return [
        Listed(each, _preset(store, each), users.of(store.where(each.digest))) for each in store.packages()
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
    spare, newer = [], dict.fromkeys({each.preset for each in packages}, 0)
    for each in packages:
        newer[each.preset] += each.stored.whole
        is_spare = newer[each.preset] > keep or not each.stored.whole
        if is_spare and not each.used_by and now - each.stored.touched > older_than:
            spare.append(each)
    return spare


def prune(store: Store, packages: Iterable[Listed], *, foreign_accounts_checked: bool) -> Iterator[str]:
    """Delete packages, one after the other; SageMaker is asked again before each.

    Args:
        store: Where they are.
        packages: To delete.
        foreign_accounts_checked: Whether the user has seen to it that no other account uses them, though the
            bucket's policy lets some read.

    Yields:
        A sentence for each package.

    Raises:
        PackageError: it cannot be told what an endpoint loads, or who else may load these packages; what was
            not deleted before stays.
    """
    sagemaker = _sagemaker(store)
    if isinstance(store, S3Store) and not foreign_accounts_checked:
        _refuse_foreign_grants(store)
    for package in packages:
        where = store.where(package.stored.digest)
        users = sagemaker.users() if sagemaker else _NOBODY
        if users.unclear:
            raise PackageError(
                f"{users.unclear[0]}, so it cannot be told which package it loads, and nothing more is "
                "pruned; update that endpoint, or delete it"
            )
        if used_by := users.of(where):
            yield f"kept {where}: {', '.join(used_by)} uses it meanwhile"
            continue
        store.delete(package.stored.digest)
        yield f"deleted {where}"


def _refuse_foreign_grants(store: S3Store) -> None:
    advice = (
        "models of other accounts cannot be seen from here: see to it that none of them uses these packages, "
        "and add --foreign-accounts-checked"
    )
    try:
        grants = store.foreign_grants()
    except PackageError as error:
        raise PackageError(f"{error}; {advice}") from None
    if grants:
        raise PackageError(f"the policy of the bucket {store.bucket!r} lets in {', '.join(grants)}; {advice}")


def _sagemaker(store: Store) -> SageMaker | None:
    return SageMaker(store.bucket_region()) if isinstance(store, S3Store) else None


def _preset(store: Store, package: Stored) -> str:
    content = store.manifest(package.digest) if package.whole else None
    if content is None:
        return ""
    try:
        return Manifest.parse(content, store.where(package.digest)).preset_name
    except PackageError:
        return "?"
