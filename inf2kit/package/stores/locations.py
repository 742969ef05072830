"""What people write as a place: a folder or a prefix of S3, with or without a package's digest."""

from __future__ import annotations

from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.manifest import DIGEST
from inf2kit.package.stores.base import FolderStore, Store


def at(output: str, region_name: str | None = None, owner: str | None = None) -> Store:
    """The store that ``--output`` means: ``s3://bucket/prefix`` or a folder.

    Args:
        output: The place.
        region_name: The bucket's region; boto3's own by default.
        owner: The account that the bucket belongs to; that of whoever calls by default.

    Raises:
        PackageError: it is neither, or AWS cannot be called.
    """
    scheme, separator, rest = output.partition("://")
    if not separator:
        return FolderStore(Path(output).expanduser())
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise PackageError(f"{output!r} is no place for packages; give a folder, or s3://BUCKET/PREFIX")
    from inf2kit.package.stores.s3 import S3Store

    prefix = prefix.strip("/")
    return S3Store(bucket, f"{prefix}/" if prefix else "", region_name, owner)


def split(where: str) -> tuple[str, str]:
    """A package's place as the place of its store, and its digest.

    Raises:
        PackageError: it does not end in a digest, so it may hold one thing today and another tomorrow.
    """
    place, _, digest = where.rstrip("/").rpartition("/")
    if not DIGEST.fullmatch(digest):
        raise PackageError(
            f"{where!r} does not end in a package's digest of 32 hexadecimal digits; give the place that "
            "'inf2kit package' has printed"
        )
    return place or ".", digest
