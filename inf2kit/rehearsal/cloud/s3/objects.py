"""S3 objects in files, so that no object of a model's size is held in memory.

Plain moto reads the whole object for each range that a client requests, and holds a multipart upload three
times in memory while it completes. With this extension a large value is a memory-mapped file, which slices
like bytes.
"""

from __future__ import annotations

import codecs
import mmap
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.utils import compute_checksum
from moto.utilities.utils import md5_hash

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.settings import ACCOUNT

#: Values of at least so many bytes are mapped files.
_LARGE = 1024 * 1024
_CHUNK = 1024 * 1024
#: Seconds for which a replaced or deleted object can still be read.
_READ_S = 60.0
_PARTITION = "aws"


class MappedFile(mmap.mmap):
    """A file's content that slices like bytes and iterates in chunks."""

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        return (self[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))


def install() -> None:
    """Patch moto to store large objects in files."""
    plain_set_value = models.FakeKey.value.fset
    dispose = models.FakeKey.dispose
    retired: deque[tuple[float, Any]] = deque()

    def dispose_later(key: Any, garbage: bool = False) -> None:
        # A response may still be reading the object.
        now = time.monotonic()
        if not key.disposed:
            retired.append((now, key))
            key.disposed = True
        while retired and retired[0][0] < now - _READ_S:
            dispose(retired.popleft()[1], garbage)

    def get_value(key: Any) -> Any:
        with key.lock:
            file = key._value_buffer
            if key.contentsize < _LARGE:
                return _read_small(key)
            file.rollover()
            file.flush()
            return MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)

    def set_value(key: Any, new_value: Any) -> None:
        if len(new_value) >= _LARGE:
            key._value_buffer.rollover()
        plain_set_value(key, new_value)

    models.FakeKey.value = property(get_value, set_value)
    models.FakeKey.dispose = dispose_later
    models.FakeMultipart.complete = _complete


def _read_small(key: Any) -> Any:
    key._value_buffer.seek(0)
    return key._value_buffer.read()


def _complete(upload: Any, body: Iterator[tuple[int, str]]) -> tuple[Any, str, Any]:
    """Join the parts of a multipart upload in a file; return value, ETag and checksum."""
    etag_digests = bytearray()
    count, last = 0, None
    joined = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps it open
    algorithm = upload.metadata.get("x-amz-checksum-algorithm") or "CRC64NVME"
    checksum_type = upload.metadata.get("x-amz-checksum-type") or (
        "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    )
    part_checksums = bytearray()
    for number, part_etag in body:
        part = upload.parts.get(number)
        if part is None or part.etag.replace('"', "") != part_etag.replace('"', ""):
            raise InvalidPart
        if last is not None and last.contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        etag_digests.extend(codecs.decode(part.etag.replace('"', ""), "hex"))
        part_content = part.value
        joined.write(part_content)
        if checksum_type == "COMPOSITE":
            part_checksums.extend(compute_checksum(part_content, algorithm, encode_base64=False))
        last, count = part, count + 1
    if count == 0:
        raise MalformedXML
    joined.flush()
    size = joined.tell()
    value: Any = MappedFile(joined.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    content, parts = (bytes(part_checksums), count) if checksum_type == "COMPOSITE" else (value, 1)
    etag = md5_hash()
    etag.update(bytes(etag_digests))
    checksum = (checksum_type, compute_checksum(content, algorithm).decode(), parts)
    for part in upload.parts.values():
        part.dispose()
    upload.parts.clear()
    return value, f"{etag.hexdigest()}-{count}", checksum


def list_prefix(uri: str) -> dict[str, Any]:
    """List moto's objects below a prefix, by their keys relative to it.

    Args:
        uri: ``s3://BUCKET/PREFIX/``.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    buckets = models.s3_backends[ACCOUNT][_PARTITION].buckets
    if bucket not in buckets:
        return {}
    keys = buckets[bucket].keys
    objects = {name: keys.get(name) for name in list(keys) if name.startswith(prefix)}
    return {
        name.removeprefix(prefix): key
        for name, key in objects.items()
        # Skip the console's folder objects and a versioned bucket's delete markers.
        if not name.endswith("/") and isinstance(key, models.FakeKey)
    }


def download_prefix(uri: str, target: Path) -> None:
    """Write the objects below a prefix to a folder.

    Raises:
        AwsError: an object's key cannot be a file's path.
    """
    for name, key in list_prefix(uri).items():
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise AwsError("ValidationException", f"The object {name!r} below {uri} cannot be a file's name.")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = key.value
        with path.open("wb") as file:
            if isinstance(content, MappedFile):
                shutil.copyfileobj(content, file, _CHUNK)
            else:
                file.write(content)


def read(uri: str) -> bytes | None:
    """Read an object; None if there is none."""
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    buckets = models.s3_backends[ACCOUNT][_PARTITION].buckets
    key = buckets[bucket].keys.get(name) if bucket in buckets else None
    return bytes(key.value) if isinstance(key, models.FakeKey) else None


def write(uri: str, content: bytes, content_type: str) -> None:
    """Write an object.

    Raises:
        KeyError: there is no such bucket.
    """
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    backend = models.s3_backends[ACCOUNT][_PARTITION]
    if bucket not in backend.buckets:
        raise KeyError(bucket)
    backend.put_object(bucket, name, content).set_metadata({"Content-Type": content_type})
