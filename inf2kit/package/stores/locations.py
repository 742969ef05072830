"""Places of packages as a user writes them: folders and S3 URIs, with or without a package's digest."""

from __future__ import annotations

from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.manifest import DIGEST
from inf2kit.package.stores.base import Store
from inf2kit.package.stores.encryption import Encryption
from inf2kit.package.stores.folder import FolderStore
from inf2kit.package.stores.places import parse_place
from inf2kit.serving.model_dir import MANIFEST


def open_store(
    place: str,
    region_name: str | None = None,
    owner: str | None = None,
    encryption: Encryption | None = None,
) -> Store:
    """Open the store of a place.

    Args:
        place: A folder, or ``s3://BUCKET/PREFIX``.
        region_name: The bucket's region; boto3's own by default.
        owner: The account that the bucket belongs to; the account that calls by default.
        encryption: How S3 encrypts what is written; as the bucket's default says without it.

    Raises:
        PackageError: the place is neither, or is written wrongly; or AWS cannot be called.
    """
    location = parse_place(place)
    if location is None:
        if encryption is not None:
            raise PackageError(f"--sse is for buckets, and {place!r} is a folder; leave it out")
        return FolderStore(Path(place).expanduser())
    from inf2kit.package.stores.s3 import S3Store

    return S3Store(location.bucket, location.prefix, region_name, owner, encryption)


def split_uri(uri: str) -> tuple[str, str]:
    """Split a package's URI or path into the place of its store and its digest.

    Raises:
        PackageError: it does not end in a digest, so its content may change.
    """
    place, _, digest = uri.removesuffix(MANIFEST).rstrip("/").rpartition("/")
    if not DIGEST.fullmatch(digest):
        raise PackageError(
            f"{uri!r} does not end in a package's digest of 32 hexadecimal digits; give the place that "
            "'inf2kit package' has printed"
        )
    return place or ".", digest
