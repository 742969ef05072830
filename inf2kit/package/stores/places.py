"""Places as a user writes them: a folder, or a bucket with a prefix. What is neither is one sentence."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from inf2kit.errors import PackageError

_ADVICE = "give a folder, or s3://BUCKET/PREFIX"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
#: Nearly ``s3://``: in capitals, with another number of slashes, or without its colon.
_NEARLY_S3 = re.compile(r"s3(:/*|/{2,})(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
#: A bucket in the address of a web page or of S3 itself.
_HOST_STYLE = re.compile(r"([a-z0-9.-]+)\.s3[.-]([a-z0-9-]+\.)?amazonaws\.com(\.cn)?/(.*)")
_PATH_STYLE = re.compile(r"s3[.-]([a-z0-9-]+\.)?amazonaws\.com(\.cn)?/([^/]+)/(.*)")
#: S3's rules for names of buckets, but for those below.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: Endings of what is called like a bucket and is none, or is of another kind.
_OTHER_KINDS = {
    "-s3alias": "an access point's alias",
    "--ol-s3": "the alias of an Object Lambda access point",
    ".mrap": "a multi-Region access point",
    "--x-s3": "a directory bucket of S3 Express, which SageMaker does not load models from",
    "--table-s3": "a table bucket",
}
#: S3 allows for a key of 1,024 bytes; a package's digest and the longest path in it are part of that.
_MAX_PREFIX = 700


@dataclass(frozen=True)
class BucketPlace:
    """A place in S3.

    Attributes:
        bucket: The bucket's name.
        prefix: The prefix, which ends in ``/`` or is empty.
    """

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """``s3://BUCKET/PREFIX/``."""
        return f"s3://{self.bucket}/{self.prefix}"


def parse_place(place: str) -> BucketPlace | None:
    """Read a place; None means that it is a folder.

    Raises:
        PackageError: it is neither a folder nor a bucket with a prefix.
    """
    if not place.strip():
        raise PackageError(f"the place for packages is empty; {_ADVICE}")
    if place != place.strip() or any(not character.isprintable() for character in place):
        raise PackageError(
            f"{place!r} begins or ends with a space, or holds a character that cannot be seen; write it "
            "without"
        )
    if place.startswith("arn:"):
        raise PackageError(
            f"{place!r} is an ARN; {_ADVICE}{_suggest_bucket(place.rpartition(':')[2], place)}"
        )
    if match := _SCHEME.fullmatch(place):
        scheme, rest = match.groups()
        if scheme == "s3" and not rest.startswith("/"):
            return _parse_bucket(place, rest)
        if scheme.lower() in ("http", "https"):
            raise PackageError(f"{place!r} is an address of the web; {_ADVICE}{_suggest_from_address(rest)}")
        if scheme.lower() == "file":
            raise PackageError(f"{place!r} is an address; give the folder itself: {rest or '/'}")
    if match := _NEARLY_S3.fullmatch(place):
        rest = match["rest"].lstrip("/")
        meant = f": is it s3://{rest}?" if rest else ""
        raise PackageError(f"{place!r} is neither a folder nor a place in S3{meant or f'; {_ADVICE}'}")
    if "://" in place:
        raise PackageError(f"{place!r} is no place for packages; {_ADVICE}")
    return None


def parse_bucket_place(place: str) -> BucketPlace:
    """Read a place that must be in S3.

    Raises:
        PackageError: it is not, or is written wrongly.
    """
    parsed = parse_place(place)
    if parsed is None:
        raise PackageError(f"{place!r} is a folder of this machine; give s3://BUCKET/PREFIX")
    return parsed


def _parse_bucket(place: str, rest: str) -> BucketPlace:
    if rest.startswith("arn:"):
        raise PackageError(
            f"{place!r} is an access point, which SageMaker does not load models from; give the bucket "
            "behind it: s3://BUCKET/PREFIX"
        )
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise PackageError(f"{place!r} names no bucket; give s3://BUCKET/PREFIX")
    for ending, kind in _OTHER_KINDS.items():
        if bucket.endswith(ending):
            raise PackageError(f"{place!r}: {bucket!r} is {kind}; give a bucket: s3://BUCKET/PREFIX")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _is_address(bucket):
        raise PackageError(
            f"{place!r}: {bucket!r} is no name of a bucket, which has 3 to 63 small letters, digits, dots "
            "and hyphens; correct it"
        )
    prefix = prefix.strip("/")
    wrong = next((character for character in prefix if character in "\\*?#%"), None)
    if wrong or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        reason = f"holds {wrong!r}" if wrong else "has an empty part, or one of dots"
        raise PackageError(f"{place!r}: the prefix {prefix!r} {reason}; choose another")
    if len(prefix.encode()) > _MAX_PREFIX:
        raise PackageError(
            f"{place[:60]!r}...: the prefix has more than {_MAX_PREFIX} bytes; choose a shorter one"
        )
    return BucketPlace(bucket, f"{prefix}/" if prefix else "")


def _suggest_from_address(rest: str) -> str:
    path = rest.partition("?")[0]
    if match := _HOST_STYLE.fullmatch(path):
        return _suggest_bucket(f"{match[1]}/{match[4]}", rest)
    if match := _PATH_STYLE.fullmatch(path):
        return _suggest_bucket(f"{match[3]}/{match[4]}", rest)
    return ""


def _suggest_bucket(meant: str, place: str) -> str:
    """Return ``, such as s3://...`` where a place that is written otherwise names a bucket."""
    if "accesspoint" in place or not _BUCKET.fullmatch(meant.partition("/")[0]):
        return ""
    return f", here s3://{meant.rstrip('/')}"


def _is_address(bucket: str) -> bool:
    try:
        ipaddress.ip_address(bucket)
    except ValueError:
        return False
    return True
