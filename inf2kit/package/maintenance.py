"""Maintain published packages: verify, list, prune."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from inf2kit.errors import PackageError
from inf2kit.package.manifest import Entry, Manifest
from inf2kit.package.stores.base import Store, StoredPackage, describe_unexpected
from inf2kit.package.stores.s3 import S3Store
from inf2kit.package.usage import PackageUsage, UsageScanner
from inf2kit.serving.model_dir import MANIFEST

_THREADS = 8
#: A folder's packages are never in use: a local endpoint runs from a copy.
_NO_USAGE = PackageUsage({}, ())


def verify(store: Store, digest: str) -> Manifest:
    """Read every byte of a package and compare it with the manifest.

    Raises:
        PackageError: naming the first file that is missing, differs or does not belong there.
    """
    uri = store.uri(digest)
    content = store.read_manifest(digest)
    if content is None:
        raise PackageError(
            f"{uri} holds no manifest, so it is no package or not a whole one; run 'inf2kit package' again"
        )
    manifest = Manifest.parse(content, f"{uri}{MANIFEST}")
    if manifest.digest != digest:
        raise PackageError(
            f"the manifest in {uri} is that of {manifest.digest}: it was changed; make the package again"
        )

    def find_fault(item: tuple[str, Entry]) -> str:
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
        faults = [fault for fault in pool.map(find_fault, manifest.files.items()) if fault]
    faults += [describe_unexpected(name) for name in sorted(store.find_unexpected(digest, manifest.files))]
    if faults:
        others = f" ({len(faults) - 1} more files are wrong)" if len(faults) > 1 else ""
        raise PackageError(
            f"the package {uri} is damaged: {faults[0]}{others}; delete the whole of it, and make it again"
        )
    return manifest


@dataclass(frozen=True)
class ListedPackage:
    """A package, its preset and its users.

    Attributes:
        stored: The package in its store.
        preset: The name of the preset that it was made for; empty while it is not whole, ``?`` where its
            manifest cannot be read.
        model: The name of its model, likewise.
        sampling: Where tokens are chosen, likewise: ``host`` or ``device``.
        used_by: The SageMaker models that load it.
    """

    stored: StoredPackage
    preset: str
    model: str
    sampling: str
    used_by: tuple[str, ...]


def list_packages(store: Store) -> list[ListedPackage]:
    """List the packages of a store, newest first, with the models that use them.

    Raises:
        PackageError: the store or SageMaker cannot be read.
    """
    scanner = _usage_scanner(store)
    usage = scanner.scan() if scanner else _NO_USAGE
    return [
        ListedPackage(stored, *_read_names(store, stored), usage.models_using(store.uri(stored.digest)))
        for stored in store.list_stored()
    ]


def select_prunable(
    packages: Collection[ListedPackage], *, keep: int, older_than: dt.timedelta, now: dt.datetime
) -> list[ListedPackage]:
    """Select the packages that are not used, not among the newest of their preset, and not touched lately.

    Args:
        packages: The packages, newest first.
        keep: How many whole packages of each preset stay in any case, for a rollback.
        older_than: A package that was touched since then stays: it may be incomplete because it is being
            published, or about to be deployed.
        now: The time, with its time zone.
    """
    prunable, newer = [], dict.fromkeys({package.preset for package in packages}, 0)
    for package in packages:
        newer[package.preset] += package.stored.whole
        is_spare = newer[package.preset] > keep or not package.stored.whole
        if is_spare and not package.used_by and now - package.stored.touched > older_than:
            prunable.append(package)
    return prunable


def prune(
    store: Store, packages: Iterable[ListedPackage], *, foreign_accounts_checked: bool
) -> Iterator[str]:
    """Delete packages one by one; SageMaker is asked again before each.

    Args:
        store: The packages' store.
        packages: The packages to delete.
        foreign_accounts_checked: Whether the user has checked that no other account uses them, though the
            bucket's policy admits some.

    Yields:
        A sentence for each package.

    Raises:
        PackageError: an endpoint's packages are not known, or other accounts may use these packages. The
            packages that are not deleted yet stay.
    """
    scanner = _usage_scanner(store)
    if isinstance(store, S3Store) and not foreign_accounts_checked:
        _check_foreign_grants(store)
    for package in packages:
        uri = store.uri(package.stored.digest)
        usage = scanner.scan() if scanner else _NO_USAGE
        if usage.unknown:
            raise PackageError(
                f"{usage.unknown[0]}, so the package that it loads is not known, and nothing more is "
                "pruned; update that endpoint, or delete it"
            )
        if used_by := usage.models_using(uri):
            yield f"kept {uri}: {', '.join(used_by)} uses it meanwhile"
            continue
        store.delete(package.stored.digest)
        yield f"deleted {uri}"


def _check_foreign_grants(store: S3Store) -> None:
    advice = (
        "models of other accounts cannot be seen from here: check that none of them uses these packages, "
        "and add --foreign-accounts-checked"
    )
    try:
        grants = store.find_foreign_grants()
    except PackageError as error:
        raise PackageError(f"{error}; {advice}") from None
    if grants:
        raise PackageError(f"the policy of the bucket {store.bucket!r} lets in {', '.join(grants)}; {advice}")


def _usage_scanner(store: Store) -> UsageScanner | None:
    return UsageScanner(store.bucket_region()) if isinstance(store, S3Store) else None


def _read_names(store: Store, package: StoredPackage) -> tuple[str, str, str]:
    """Return the names of a package's preset and model, and where tokens are chosen."""
    content = store.read_manifest(package.digest) if package.whole else None
    if content is None:
        return "", "", ""
    try:
        manifest = Manifest.parse(content, store.uri(package.digest))
    except PackageError:
        return "?", "?", "?"
    return manifest.preset_name, manifest.model, manifest.preset["compute"].get("sampling", "host")
