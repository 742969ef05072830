"""A bucket as a store: pieces are sent side by side, and an upload goes on where it was killed."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError
from inf2kit.package.hashing import PART, Hashed
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.package.stores.base import Sent, Store, Stored, Task, newest_first
from inf2kit.package.stores.bucket import client, foreign_grants
from inf2kit.package.stores.upload import Upload, goes_on, sha256_header
from inf2kit.serving.model_dir import MANIFEST

#: A key below the prefix that nothing is ever left at.
_PROBE = ".inf2kit-writable"
_BLOCK = 2**20
_THREADS = 16
_NO_LISTING = (
    "your credentials do not allow s3:ListBucketMultipartUploads: an upload that was broken off is sent "
    "again as a whole, and what was sent of it stays in the bucket"
)


class S3Store(Store):
    """A prefix of a bucket.

    Args:
        bucket: Its name.
        prefix: Ends in ``/``, or is empty.
        region_name: The region that will deploy; boto3's own by default.
        owner: The account that the bucket belongs to; that of whoever calls by default.

    Raises:
        PackageError: AWS cannot be called.
    """

    def __init__(
        self, bucket: str, prefix: str, region_name: str | None = None, owner: str | None = None
    ) -> None:
        super().__init__()
        self.bucket = bucket
        self._prefix = prefix
        with aws.translate_errors(PackageError, f"reading s3://{bucket}"):
            self._s3, self.owner = client(region_name, owner, max_pool_connections=2 * _THREADS)
        self.region = str(self._s3.meta.region_name)

    def where(self, digest: str) -> str:
        """The package's URI, with the slash that SageMaker asks for."""
        return f"s3://{self.bucket}/{self._prefix}{digest}/"

    def check_writable(self) -> None:
        """The bucket is there, in the region that will deploy, and takes an upload, which is aborted."""
        region = self.bucket_region()
        if region != self.region:
            raise PackageError(
                f"the bucket {self.bucket!r} is in {region}, and you deploy in {self.region}: SageMaker "
                f"reads a model only from its own region; give --region {region}, or a bucket in "
                f"{self.region}"
            )
        at = {"Bucket": self.bucket, "Key": f"{self._prefix}{_PROBE}"}
        with aws.translate_errors(PackageError, f"writing to s3://{self.bucket}/{self._prefix}"):
            upload = self._s3.create_multipart_upload(**at, ChecksumAlgorithm="SHA256")["UploadId"]
            self._s3.abort_multipart_upload(**at, UploadId=upload)
        self._uploads(self._prefix)

    def bucket_region(self) -> str:
        """Where the bucket is, and with it everything that loads its packages."""
        with aws.translate_errors(PackageError, f"looking at the bucket {self.bucket!r}"):
            answer = self._s3.head_bucket(Bucket=self.bucket)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or self.region)

    def foreign_grants(self) -> list[str]:
        """Whom of other accounts the bucket's policy lets in.

        Raises:
            PackageError: it cannot be read.
        """
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading the policy of the bucket {self.bucket!r}"):
            try:
                policy = json.loads(self._s3.get_bucket_policy(Bucket=self.bucket)["Policy"])
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
                    raise
                return []
        return foreign_grants(policy, self.owner)

    def packages(self) -> list[Stored]:
        """By one listing of the whole prefix."""
        packages: dict[str, Stored] = {}

        def add(key: str, size: int, touched: dt.datetime) -> None:
            digest, _, name = key[len(self._prefix) :].partition("/")
            if DIGEST.fullmatch(digest):
                before = packages.get(digest, Stored(digest, False, touched, 0))
                packages[digest] = Stored(
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
        return newest_first(packages.values())

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
            return self._has(digest, name, files[name])

        with ThreadPoolExecutor(_THREADS) as pool:
            return {name for name, yes in zip(same_size, pool.map(same, same_size), strict=True) if yes}

    def _has(self, digest: str, name: str, entry: Entry) -> bool:
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading {self.where(digest)}{name}"):
            try:
                head = self._s3.head_object(Bucket=self.bucket, Key=self._key(digest, name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return False
                raise
        return bool(head["Metadata"].get("sha256") == entry.sha256)

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

            with aws.translate_errors(PackageError, f"copying {name} from {self.where(origin[0])}"):
                self._s3.copy(
                    {"Bucket": self.bucket, "Key": self._key(*origin)},
                    self.bucket,
                    self._key(digest, name),
                    ExtraArgs={**_kept(name, entry), "MetadataDirective": "REPLACE"},
                    Config=TransferConfig(use_threads=False),
                )
            sent(entry.size)

        return Task(entry.size, run)

    def write(self, digest: str, files: Mapping[str, Hashed]) -> Iterable[Task]:
        """A task for each small file, and for each piece of a large one."""
        begun = {each["Key"]: each for each in self._uploads(self._key(digest, "")) if goes_on(each)}
        for name, source in files.items():
            if source.entry.size <= PART:
                yield Task(source.entry.size, partial(self._put, digest, name, source))
                continue
            key = self._key(digest, name)
            upload = Upload(
                self._s3,
                self.bucket,
                key,
                source,
                _kept(name, source.entry),
                partial(self._has, digest, name, source.entry),
            )
            if key in begun:
                yield from upload.tasks(begun[key]["UploadId"], self._parts(begun[key]))
            else:
                yield from upload.tasks(None, ())

    def _put(self, digest: str, name: str, source: Hashed, sent: Sent) -> None:
        with aws.translate_errors(PackageError, f"writing {self.where(digest)}{name}"):
            self._s3.put_object(
                Bucket=self.bucket,
                Key=self._key(digest, name),
                Body=source.piece(0),
                ChecksumSHA256=sha256_header(source.parts[0]),
                **_kept(name, source.entry),
            )
        sent(source.entry.size)

    def commit(self, digest: str, content: bytes) -> None:
        """One small object."""
        with aws.translate_errors(PackageError, f"writing {self.where(digest)}{MANIFEST}"):
            self._s3.put_object(
                Bucket=self.bucket,
                Key=self._key(digest, MANIFEST),
                Body=content,
                ChecksumSHA256=sha256_header(hashlib.sha256(content).digest()),
                ContentType="application/json",
            )
            # What a killed run has begun and nobody needs any more would be billed for ever.
            self._abort_uploads(digest)

    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """As it comes."""
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading {self.where(digest)}{name}"):
            try:
                answer = self._s3.get_object(Bucket=self.bucket, Key=self._key(digest, name))
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    raise FileNotFoundError(name) from None
                raise
            yield from answer["Body"].iter_chunks(_BLOCK)

    def delete(self, digest: str) -> None:
        """The manifest first, then the rest, then what was sent of uploads that never ended."""
        with aws.translate_errors(PackageError, f"deleting {self.where(digest)}"):
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
        try:
            uploads = list(self._pages("list_multipart_uploads", "Uploads", Prefix=prefix))
        except PackageError as error:
            if "AccessDenied" not in str(error):
                raise
            self.notes.setdefault("uploads", _NO_LISTING)
            return []
        uploads = [upload for upload in uploads if not upload["Key"].endswith(_PROBE)]
        return sorted(uploads, key=lambda upload: upload["Initiated"])

    def _parts(self, upload: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            return list(self._pages("list_parts", "Parts", Key=upload["Key"], UploadId=upload["UploadId"]))
        except PackageError as error:
            # It was completed since it was listed, or its parts may not be listed.
            if "NoSuchUpload" not in str(error) and "AccessDenied" not in str(error):
                raise
            return []

    def _pages(self, operation: str, what: str, **arguments: str) -> Iterator[dict[str, Any]]:
        with aws.translate_errors(PackageError, f"reading s3://{self.bucket}/{self._prefix}"):
            for page in self._s3.get_paginator(operation).paginate(Bucket=self.bucket, **arguments):
                yield from page.get(what, ())


def _kept(name: str, entry: Entry) -> dict[str, Any]:
    """What is stored with an object."""
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"ContentType": content_type, "Metadata": {"sha256": entry.sha256}}
