"""The package that a stack deploys: a place in S3 with a digest, and its manifest, read on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inf2kit import paths
from inf2kit.errors import DeploymentError, PackageError
from inf2kit.package import Manifest, split


@dataclass(frozen=True)
class DeployedPackage:
    """A package in S3 whose manifest is known.

    Attributes:
        bucket: The bucket's name.
        prefix: Its key prefix in the bucket, ending in ``DIGEST/``.
        manifest: What is in it.
    """

    bucket: str
    prefix: str
    manifest: Manifest

    @property
    def folder(self) -> str:
        """The key prefix that all packages beside this one have too, such as ``models/``; may be empty."""
        return self.prefix.removesuffix(f"{self.manifest.digest}/")

    @property
    def uri(self) -> str:
        """``s3://BUCKET/PREFIX/DIGEST/``."""
        return f"s3://{self.bucket}/{self.prefix}"


def read(uri: str, manifest_files: Sequence[Path] = ()) -> DeployedPackage:
    """The package of a URI, without asking S3.

    Args:
        uri: ``s3://BUCKET/PREFIX/DIGEST/``.
        manifest_files: Manifests to look into; otherwise the copy that packaging has left is read.

    Raises:
        DeploymentError: the URI has no digest, or its manifest is not here or not its own.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise DeploymentError(
            f"package {uri!r} is not in S3; "
            "give the s3://BUCKET/PREFIX/DIGEST/ that 'inf2kit package' has printed"
        )
    try:
        _, digest = split(key)
        manifests = _given(manifest_files)
        content = manifests.get(digest) or _kept(digest)
        if content is None:
            raise DeploymentError(
                f"the manifest of {uri} is not on this machine; fetch it and name it: "
                f"aws s3 cp {uri.rstrip('/')}/inf2kit.json . && cdk ... -c manifest=inf2kit.json"
            )
        manifest = Manifest.parse(content, f"the manifest of {uri}")
    except PackageError as error:
        raise DeploymentError(str(error)) from None
    if manifest.digest != digest:
        raise DeploymentError(
            f"the manifest of {uri} is not its own but that of {manifest.digest}: one of them was changed"
        )
    return DeployedPackage(bucket, f"{key.rstrip('/')}/", manifest)


def _kept(digest: str) -> bytes | None:
    path = paths.manifest(digest)
    return path.read_bytes() if path.exists() else None


def _given(files: Sequence[Path]) -> Mapping[str, bytes]:
    manifests = {}
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DeploymentError(f"manifest {path} cannot be read: {error.strerror}") from None
        manifests[Manifest.parse(content, str(path)).digest] = content
    return manifests
