"""The model package that a stack deploys: its location in S3, and its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inf2kit import paths
from inf2kit.errors import DeploymentError, PackageError
from inf2kit.package import Manifest, split_uri
from inf2kit.package.stores.places import parse_bucket_place


@dataclass(frozen=True)
class DeployedPackage:
    """A package in S3 with its manifest.

    Attributes:
        bucket: The bucket's name.
        prefix: The package's key prefix in the bucket, ending in ``DIGEST/``.
        manifest: The package's files, preset and versions.
    """

    bucket: str
    prefix: str
    manifest: Manifest

    @classmethod
    def from_uri(cls, uri: str, *, manifest_files: Sequence[str | Path] = ()) -> DeployedPackage:
        """Return the package of a URI. This reads local files only and makes no network call.

        Args:
            uri: ``s3://BUCKET/PREFIX/DIGEST/``, as ``inf2kit package`` prints it.
            manifest_files: Copies of packages' ``inf2kit.json``. A package that is in none of them is looked
                up among the copies that ``inf2kit package`` keeps on this machine.

        Raises:
            DeploymentError: the URI has no digest, the manifest is not on this machine, or the manifest is
                that of another package.
        """
        scheme, _, location = uri.partition("://")
        bucket, _, key = location.partition("/")
        if scheme != "s3" or not bucket:
            raise DeploymentError(
                f"package {uri!r} is not in S3; "
                "give the s3://BUCKET/PREFIX/DIGEST/ that 'inf2kit package' prints"
            )
        try:
            parse_bucket_place(uri)
            _, digest = split_uri(key)
            content = _read_manifests(manifest_files).get(digest) or _read_kept_copy(digest)
            if content is None:
                raise DeploymentError(
                    f"the manifest of {uri} is not on this machine; fetch it and name it: "
                    f"aws s3 cp {uri.rstrip('/')}/inf2kit.json . && cdk ... -c manifest=inf2kit.json "
                    "(in your own app: DeployedPackage.from_uri(uri, manifest_files=['inf2kit.json']))"
                )
            manifest = Manifest.parse(content, f"the manifest of {uri}")
        except PackageError as error:
            raise DeploymentError(str(error)) from None
        if manifest.digest != digest:
            raise DeploymentError(
                f"the manifest of {uri} is not its own but that of {manifest.digest}: one of them was changed"
            )
        return cls(bucket, f"{key.rstrip('/')}/", manifest)

    @property
    def folder(self) -> str:
        """The key prefix that contains this package and others, such as ``models/``; may be empty."""
        return self.prefix.removesuffix(f"{self.manifest.digest}/")

    @property
    def uri(self) -> str:
        """``s3://BUCKET/PREFIX/DIGEST/``."""
        return f"s3://{self.bucket}/{self.prefix}"


def _read_kept_copy(digest: str) -> bytes | None:
    path = paths.manifest(digest)
    return path.read_bytes() if path.exists() else None


def _read_manifests(files: Sequence[str | Path]) -> dict[str, bytes]:
    """The contents of manifest files, by their packages' digests."""
    manifests = {}
    for file in files:
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise DeploymentError(f"manifest {file} cannot be read: {error.strerror}") from None
        manifests[Manifest.parse(content, str(file)).digest] = content
    return manifests
