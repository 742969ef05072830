"""moto's S3 with objects that are files: nothing of the size of a model is held in memory.

Plain moto reads an object whole for every part of it that somebody asks for, and holds a multipart upload
three times over while it completes. Here a large value is a mapped file, which slices like bytes.
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

#: Larger values are mapped.
_LARGE = 1024 * 1024
_CHUNK = 1024 * 1024
#: How long somebody may still read an object that was replaced or deleted.
_READ_S = 60.0
_PARTITION = "aws"


class FileBytes(mmap.mmap):
    """A file's content that can be sliced like bytes, and is sent piece by piece."""

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        return (self[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))


def install() -> None:
    """Put large objects into files, from now on."""
    write = models.FakeKey.value.fset

    dispose = models.FakeKey.dispose
    replaced: deque[tuple[float, Any]] = deque()

    def dispose_later(key: Any, garbage: bool = False) -> None:
        # Somebody may be reading what is replaced here.
        now = time.monotonic()
        if not key.disposed:
            replaced.append((now, key))
            key.disposed = True
        while replaced and replaced[0][0] < now - _READ_S:
            dispose(replaced.popleft()[1], garbage)

    def value(key: Any) -> Any:
        with key.lock:
            file = key._value_buffer
            if key.contentsize < _LARGE:
                return _read_small(key)
            file.rollover()
            file.flush()
            return FileBytes(file.fileno(), 0, access=mmap.ACCESS_READ)

    def set_value(key: Any, new_value: Any) -> None:
        if len(new_value) >= _LARGE:
            key._value_buffer.rollover()
        write(key, new_value)

    models.FakeKey.value = property(value, set_value)
    models.FakeKey.dispose = dispose_later
    models.FakeMultipart.complete = _complete


def _read_small(key: Any) -> Any:
    key._value_buffer.seek(0)
    return key._value_buffer.read()


def _complete(upload: Any, body: Iterator[tuple[int, str]]) -> tuple[Any, str, Any]:
    """Join the parts in a file."""
    etags = bytearray()
    count, last = 0, None
    joined = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps it open
    algorithm = upload.metadata.get("x-amz-checksum-algorithm") or "CRC64NVME"
    kind = upload.metadata.get("x-amz-checksum-type") or (
        "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    )
    sums = bytearray()
    for number, etag in body:
        part = upload.parts.get(number)
        if part is None or part.etag.replace('"', "") != etag.replace('"', ""):
            raise InvalidPart
        if last is not None and last.contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        etags.extend(codecs.decode(part.etag.replace('"', ""), "hex"))
        content = part.value
        joined.write(content)
        if kind == "COMPOSITE":
            sums.extend(compute_checksum(content, algorithm, encode_base64=False))
        last, count = part, count + 1
    if count == 0:
        raise MalformedXML
    joined.flush()
    size = joined.tell()
    value: Any = FileBytes(joined.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    summed, parts = (bytes(sums), count) if kind == "COMPOSITE" else (value, 1)
    whole = md5_hash()
    whole.update(bytes(etags))
    checksum = (kind, compute_checksum(summed, algorithm).decode(), parts)
    for part in upload.parts.values():
        part.dispose()
    upload.parts.clear()
    return value, f"{whole.hexdigest()}-{count}", checksum


def below(uri: str) -> dict[str, Any]:
    """The objects of a prefix, by the rest of their keys.

    Args:
        uri: ``s3://BUCKET/PREFIX/``.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    buckets = models.s3_backends[ACCOUNT][_PARTITION].buckets
    if bucket not in buckets:
        return {}
    keys = buckets[bucket].keys
    found = {name: keys.get(name) for name in list(keys) if name.startswith(prefix)}
    return {
        name.removeprefix(prefix): key
        for name, key in found.items()
        # A console makes objects for folders; a versioned bucket has marks of what was deleted.
        if not name.endswith("/") and isinstance(key, models.FakeKey)
    }


def fetch(uri: str, target: Path) -> None:
    """Write the objects of a prefix below a folder."""
    for name, key in below(uri).items():
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise AwsError("ValidationException", f"The object {name!r} below {uri} cannot be a file's name.")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = key.value
        with path.open("wb") as file:
            if isinstance(content, FileBytes):
                shutil.copyfileobj(content, file, _CHUNK)
            else:
                file.write(content)


def read(uri: str) -> bytes | None:
    """One object's content, or None where there is none."""
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    buckets = models.s3_backends[ACCOUNT][_PARTITION].buckets
    key = buckets[bucket].keys.get(name) if bucket in buckets else None
    return bytes(key.value) if isinstance(key, models.FakeKey) else None


def write(uri: str, content: bytes, content_type: str) -> None:
    """Make one object.

    Raises:
        KeyError: there is no such bucket.
    """
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    backend = models.s3_backends[ACCOUNT][_PARTITION]
    if bucket not in backend.buckets:
        raise KeyError(bucket)
    backend.put_object(bucket, name, content).set_metadata({"Content-Type": content_type})
