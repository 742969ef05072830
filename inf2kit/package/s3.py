"""A bucket as a store: pieces are sent side by side, and an upload goes on where it was killed."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.package.store import Sent, Store, Stored, Task, newest_first
from inf2kit.packaged import MANIFEST

#: Bytes of a piece of a large file. A killed upload loses what it had sent of its last pieces only.
PART = 16 * 2**20
_MOST_PARTS = 10_000
_BLOCK = 2**20
_THREADS = 16


class S3Store(Store):
    """A prefix of a bucket.

    Args:
        bucket: Its name.
        prefix: Ends in ``/``, or is empty.
        region_name: The region that will deploy; boto3's own by default.
    """

    def __init__(self, bucket: str, prefix: str, region_name: str | None = None) -> None:
        self.bucket = bucket
        self._prefix = prefix
        with aws.errors(PackageError, f"reading s3://{bucket}"):
            self._s3 = aws.client("s3", region_name, max_pool_connections=2 * _THREADS)
        self.region = str(self._s3.meta.region_name)

    def where(self, digest: str) -> str:
        """The package's URI, with the slash that SageMaker asks for."""
        return f"s3://{self.bucket}/{self._prefix}{digest}/"

    def check_writable(self) -> None:
        """The bucket is there and in the region that will deploy; whether it may be written shows at once."""
        found = self.bucket_region()
        if found != self.region:
            raise PackageError(
                f"the bucket {self.bucket!r} is in {found}, and you deploy in {self.region}: SageMaker "
                f"reads a model only from its own region; give --region {found}, or a bucket in {self.region}"
            )

    def bucket_region(self) -> str:
        """Where the bucket is, and with it everything that loads its packages."""
        with aws.errors(PackageError, f"looking at the bucket {self.bucket!r}"):
            answer = self._s3.head_bucket(Bucket=self.bucket)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or self.region)

    def packages(self) -> list[Stored]:
        """By one listing of the whole prefix."""
        found: dict[str, Stored] = {}

        def add(key: str, size: int, touched: dt.datetime) -> None:
            digest, _, name = key[len(self._prefix) :].partition("/")
            if DIGEST.fullmatch(digest):
                before = found.get(digest, Stored(digest, False, touched, 0))
                found[digest] = Stored(
                    digest,
                    before.whole or name == MANIFEST,
                    max(before.touched, touched),
                    before.size + size,
                )

        for each in self._objects(self._prefix):
            add(each["Key"], each["Size"], each["LastModified"])
        # What was sent of an upload that is not complete costs as much, and is listed nowhere else.
        for upload in self._uploads(self._prefix):
            parts = self._parts(upload)
            touched = max((part["LastModified"] for part in parts), default=upload["Initiated"])
            add(upload["Key"], sum(part["Size"] for part in parts), touched)
        return newest_first(found.values())

    def manifest(self, digest: str) -> bytes | None:
        """Got in one call."""
        try:
            return b"".join(self.read(digest, MANIFEST))
        except FileNotFoundError:
            return None

    def present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Those whose sha256, which was stored with them, is the same."""
        lacking = self.lacking(digest, files)
        same_size = [name for name in files if name not in lacking]

        def same(name: str) -> bool:
            head = self._s3.head_object(Bucket=self.bucket, Key=self._key(digest, name))
            return bool(head["Metadata"].get("sha256") == files[name].sha256)

        with aws.errors(PackageError, f"reading {self.where(digest)}"), ThreadPoolExecutor(_THREADS) as pool:
            return {name for name, yes in zip(same_size, pool.map(same, same_size), strict=True) if yes}

    def lacking(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """By one listing."""
        sizes = self._sizes(digest)
        return {name for name, entry in files.items() if sizes.get(name) != entry.size}

    def unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """By one listing."""
        return set(self._sizes(digest)) - set(files) - {MANIFEST}

    def _sizes(self, digest: str) -> dict[str, int]:
        begin = self._key(digest, "")
        return {each["Key"][len(begin) :]: each["Size"] for each in self._objects(begin)}

    def copy(self, digest: str, name: str, entry: Entry, origin: tuple[str, str]) -> Task:
        """A copy within the bucket, by S3 itself."""

        def run(sent: Sent) -> None:
            from boto3.s3.transfer import TransferConfig

            with aws.errors(PackageError, f"copying {name} from {self.where(origin[0])}"):
                self._s3.copy(
                    {"Bucket": self.bucket, "Key": self._key(*origin)},
                    self.bucket,
                    self._key(digest, name),
                    ExtraArgs={**_kept(name, entry), "MetadataDirective": "REPLACE"},
                    Config=TransferConfig(use_threads=False),
                )
            sent(entry.size)

        return Task(entry.size, run)

    def write(self, digest: str, files: Mapping[str, tuple[Path, Entry]]) -> Iterable[Task]:
        """A task for each small file, and for each piece of a large one."""
        begun = {upload["Key"]: upload for upload in self._uploads(self._key(digest, ""))}
        for name, (path, entry) in files.items():
            if entry.size <= PART:
                yield Task(entry.size, partial(self._put, digest, name, path, entry))
            else:
                upload = _Upload(self, digest, name, path, entry)
                yield from upload.tasks(begun.get(self._key(digest, name)))

    def _put(self, digest: str, name: str, path: Path, entry: Entry, sent: Sent) -> None:
        with aws.errors(PackageError, f"writing {self.where(digest)}{name}"), path.open("rb") as file:
            self._s3.put_object(
                Bucket=self.bucket, Key=self._key(digest, name), Body=file, **_kept(name, entry)
            )
        sent(entry.size)

    def commit(self, digest: str, content: bytes) -> None:
        """One small object."""
        with aws.errors(PackageError, f"writing {self.where(digest)}{MANIFEST}"):
            self._s3.put_object(
                Bucket=self.bucket,
                Key=self._key(digest, MANIFEST),
                Body=content,
                ContentType="application/json",
            )
            # What a killed run has begun and nobody needs any more would be billed for ever.
            self._abort_uploads(digest)

    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """As it comes."""
        from botocore.exceptions import ClientError

        with aws.errors(PackageError, f"reading {self.where(digest)}{name}"):
            try:
                answer = self._s3.get_object(Bucket=self.bucket, Key=self._key(digest, name))
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    raise FileNotFoundError(name) from None
                raise
            yield from answer["Body"].iter_chunks(_BLOCK)

    def delete(self, digest: str) -> None:
        """The manifest first, then the rest, then what was sent of uploads that never ended."""
        with aws.errors(PackageError, f"deleting {self.where(digest)}"):
            self._s3.delete_object(Bucket=self.bucket, Key=self._key(digest, MANIFEST))
            keys = [{"Key": each["Key"]} for each in self._objects(self._key(digest, ""))]
            for start in range(0, len(keys), 1000):
                batch = {"Objects": keys[start : start + 1000], "Quiet": True}
                refused = self._s3.delete_objects(Bucket=self.bucket, Delete=batch).get("Errors", [])
                if refused:
                    raise PackageError(
                        f"{self.where(digest)} is deleted in part: {refused[0].get('Message')}; try again"
                    )
            self._abort_uploads(digest)

    def _abort_uploads(self, digest: str) -> None:
        for upload in self._uploads(self._key(digest, "")):
            at = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            with contextlib.suppress(self._s3.exceptions.NoSuchUpload):
                self._s3.abort_multipart_upload(**at)

    def _key(self, digest: str, name: str) -> str:
        return f"{self._prefix}{digest}/{name}"

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        yield from self._pages("list_objects_v2", "Contents", Prefix=prefix)

    def _uploads(self, prefix: str) -> list[dict[str, Any]]:
        """Multipart uploads that were begun and neither completed nor aborted, the newest of a key last."""
        found = self._pages("list_multipart_uploads", "Uploads", Prefix=prefix)
        return sorted(found, key=lambda upload: upload["Initiated"])

    def _parts(self, upload: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            return list(self._pages("list_parts", "Parts", Key=upload["Key"], UploadId=upload["UploadId"]))
        except PackageError as error:
            # It was completed since it was listed.
            if "NoSuchUpload" in str(error):
                return []
            raise

    def _pages(self, operation: str, what: str, **arguments: str) -> Iterator[dict[str, Any]]:
        with aws.errors(PackageError, f"reading s3://{self.bucket}/{self._prefix}"):
            for page in self._s3.get_paginator(operation).paginate(Bucket=self.bucket, **arguments):
                yield from page.get(what, ())


class _Upload:
    """A large file on its way, piece by piece."""

    def __init__(self, store: S3Store, digest: str, name: str, path: Path, entry: Entry) -> None:
        self._s3, self._doing = store._s3, f"writing {store.where(digest)}{name}"
        self._store, self._name = store, name
        self._at = {"Bucket": store.bucket, "Key": store._key(digest, name)}
        self._path, self._entry = path, entry
        self._length = max(PART, -(-entry.size // _MOST_PARTS))
        self._numbers = range(1, -(-entry.size // self._length) + 1)
        self._sent: dict[int, dict[str, Any]] = {}
        self._lock = Lock()

    def tasks(self, begun: Mapping[str, Any] | None) -> Iterator[Task]:
        """The pieces that are still to be sent; the last one that ends completes the object.

        Args:
            begun: An upload of the same key that was broken off.
        """
        with aws.errors(PackageError, self._doing):
            if begun is not None:
                self._at["UploadId"] = begun["UploadId"]
                there = {part["PartNumber"]: part for part in self._store._parts(begun)}
                for number in self._numbers:
                    if number in there and self._is_same(number, there[number]):
                        self._sent[number] = _part(number, there[number])
            else:
                kept = {**_kept(self._name, self._entry), "ChecksumAlgorithm": "CRC32"}
                self._at["UploadId"] = self._s3.create_multipart_upload(**self._at, **kept)["UploadId"]
        missing = [number for number in self._numbers if number not in self._sent]
        for number in missing:
            yield Task(self._span(number)[1], partial(self._send, number))
        if not missing:
            yield Task(0, lambda _sent: self._complete())

    def _send(self, number: int, sent: Sent) -> None:
        from s3transfer.utils import ReadFileChunk

        start, length = self._span(number)
        with (
            aws.errors(PackageError, self._doing),
            ReadFileChunk.from_filename(str(self._path), start, length) as body,
        ):
            answer = self._s3.upload_part(**self._at, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        sent(length)
        with self._lock:
            self._sent[number] = _part(number, answer)
            last = len(self._sent) == len(self._numbers)
        if last:
            self._complete()

    def _complete(self) -> None:
        parts = [self._sent[number] for number in self._numbers]
        with aws.errors(PackageError, self._doing):
            self._s3.complete_multipart_upload(**self._at, MultipartUpload={"Parts": parts})

    def _span(self, number: int) -> tuple[int, int]:
        start = (number - 1) * self._length
        return start, min(self._length, self._entry.size - start)

    def _is_same(self, number: int, part: Mapping[str, Any]) -> bool:
        """Its ETag is its MD5; where the bucket encrypts with a key it is not, and the part is sent again."""
        start, length = self._span(number)
        if part["Size"] != length:
            return False
        digest = hashlib.md5(usedforsecurity=False)
        with self._path.open("rb") as file:
            file.seek(start)
            while length > 0 and (block := file.read(min(_BLOCK, length))):
                digest.update(block)
                length -= len(block)
        return bool(part["ETag"].strip('"') == digest.hexdigest())


def _part(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What completing an upload says of a part: S3 compares it with what it has."""
    named = {key: answer[key] for key in ("ETag", "ChecksumCRC32") if key in answer}
    return {"PartNumber": number, **named}


def _kept(name: str, entry: Entry) -> dict[str, Any]:
    """What is stored with an object."""
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"ContentType": content_type, "Metadata": {"sha256": entry.sha256}}
