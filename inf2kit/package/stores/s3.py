"""A prefix of an S3 bucket as a store: parts are sent in parallel, and a killed upload is resumed."""

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
from inf2kit.package.hashing import PART_SIZE, HashedFile
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.package.stores.base import FileOrigin, ReportBytes, Store, StoredPackage, Task, sort_packages
from inf2kit.package.stores.bucket import create_client, find_foreign_grants
from inf2kit.package.stores.encryption import Encryption, explain_denial
from inf2kit.package.stores.upload import Upload, can_resume, sha256_header
from inf2kit.serving.model_dir import MANIFEST

#: A key below the prefix whose uploads are always aborted.
_PROBE = ".inf2kit-writable"
_BLOCK = 2**20
_THREADS = 16
_NO_LISTING = (
    "your credentials do not allow s3:ListBucketMultipartUploads: an upload that was broken off is sent "
    "again as a whole, and its first parts stay in the bucket"
)


class S3Store(Store):
    """A store below a prefix of a bucket.

    Args:
        bucket: The bucket's name.
        prefix: The prefix, which ends in ``/`` or is empty.
        region_name: The region that will deploy; boto3's own by default.
        owner: The account that the bucket belongs to; the account that calls by default.
        encryption: How S3 encrypts what is written; as the bucket's default says without it.

    Raises:
        PackageError: AWS cannot be called.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        region_name: str | None = None,
        owner: str | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        super().__init__()
        self.bucket = bucket
        self.encryption = encryption
        self._encrypted = encryption.arguments() if encryption else {}
        self._prefix = prefix
        with aws.translate_errors(PackageError, f"reading s3://{bucket}"):
            self._s3, self.owner = create_client(region_name, owner, max_pool_connections=2 * _THREADS)
        self.region = str(self._s3.meta.region_name)

    def uri(self, digest: str) -> str:
        """Return the package's URI, with the slash at its end that SageMaker requires."""
        return f"s3://{self.bucket}/{self._prefix}{digest}/"

    def check_writable(self) -> None:
        """Check the bucket's region, and begin an upload, which is aborted."""
        region = self.bucket_region()
        if region != self.region:
            raise PackageError(
                f"the bucket {self.bucket!r} is in {region}, and you deploy in {self.region}: SageMaker "
                f"reads a model only from its own region; give --region {region}, or a bucket in "
                f"{self.region}"
            )
        probe = {"Bucket": self.bucket, "Key": f"{self._prefix}{_PROBE}"}
        try:
            with aws.translate_errors(PackageError, f"writing to s3://{self.bucket}/{self._prefix}"):
                created = self._s3.create_multipart_upload(
                    **probe, ChecksumAlgorithm="SHA256", **self._encrypted
                )
                self._s3.abort_multipart_upload(**probe, UploadId=created["UploadId"])
        except PackageError as error:
            if "(AccessDenied)" not in str(error):
                raise
            sentence = explain_denial(str(error), self.bucket, self._read_policy, self.encryption)
            raise PackageError(sentence) from None
        self._list_uploads(self._prefix)

    def bucket_region(self) -> str:
        """Return the bucket's region. Only models in that region can load its packages."""
        with aws.translate_errors(PackageError, f"looking at the bucket {self.bucket!r}"):
            response = self._s3.head_bucket(Bucket=self.bucket)
        headers = response["ResponseMetadata"]["HTTPHeaders"]
        return str(response.get("BucketRegion") or headers.get("x-amz-bucket-region") or self.region)

    def find_foreign_grants(self) -> list[str]:
        """Return the principals of other accounts that the bucket's policy admits.

        Raises:
            PackageError: the policy cannot be read.
        """
        return find_foreign_grants(self._read_policy(), self.owner)

    def _read_policy(self) -> dict[str, Any]:
        """Read the bucket's policy; an empty one where it has none."""
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading the policy of the bucket {self.bucket!r}"):
            try:
                policy = json.loads(self._s3.get_bucket_policy(Bucket=self.bucket)["Policy"])
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
                    raise
                return {}
        return dict(policy)

    def list_stored(self) -> list[StoredPackage]:
        """List the whole prefix once, with uploads that are not complete."""
        packages: dict[str, StoredPackage] = {}

        def add(key: str, size: int, touched: dt.datetime) -> None:
            digest, _, name = key[len(self._prefix) :].partition("/")
            if DIGEST.fullmatch(digest):
                before = packages.get(digest, StoredPackage(digest, False, touched, 0))
                packages[digest] = StoredPackage(
                    digest,
                    before.whole or name == MANIFEST,
                    max(before.touched, touched),
                    before.size + size,
                )

        for stored in self._list_objects(self._prefix):
            add(stored["Key"], stored["Size"], stored["LastModified"])
        # Parts of an upload that is not complete are billed like objects, and are listed nowhere else.
        for upload in self._list_uploads(self._prefix):
            parts = self._list_parts(upload)
            touched = max((part["LastModified"] for part in parts), default=upload["Initiated"])
            add(upload["Key"], sum(part["Size"] for part in parts), touched)
        return sort_packages(packages.values())

    def read_manifest(self, digest: str) -> bytes | None:
        """Read the object in one call."""
        try:
            return b"".join(self.read(digest, MANIFEST))
        except FileNotFoundError:
            return None

    def find_present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare sizes by one listing, then the sha256 in each object's metadata."""
        missing = self.find_missing(digest, files)
        same_size = [name for name in files if name not in missing]

        def is_same(name: str) -> bool:
            return self._is_stored(digest, name, files[name])

        with ThreadPoolExecutor(_THREADS) as pool:
            results = zip(same_size, pool.map(is_same, same_size), strict=True)
            return {name for name, same in results if same}

    def _is_stored(self, digest: str, name: str, entry: Entry) -> bool:
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading {self.uri(digest)}{name}"):
            try:
                head = self._s3.head_object(Bucket=self.bucket, Key=self._key(digest, name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return False
                raise
        return bool(head["Metadata"].get("sha256") == entry.sha256)

    def find_missing(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare sizes by one listing."""
        sizes = self._sizes(digest)
        return {name for name, entry in files.items() if sizes.get(name) != entry.size}

    def find_unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare names by one listing."""
        return set(self._sizes(digest)) - set(files) - {MANIFEST}

    def _sizes(self, digest: str) -> dict[str, int]:
        prefix = self._key(digest, "")
        return {stored["Key"][len(prefix) :]: stored["Size"] for stored in self._list_objects(prefix)}

    def copy_task(self, digest: str, name: str, entry: Entry, origin: FileOrigin) -> Task:
        """Let S3 copy the object inside the bucket."""

        def run(report: ReportBytes) -> None:
            action = f"copying {name} from {self.uri(origin.digest)}"
            with aws.translate_errors(PackageError, action):
                try:
                    self._copy(digest, name, entry, origin)
                except self._s3.exceptions.NoSuchUpload:
                    # Another process that publishes the same has ended uploads that it took for left over.
                    if not self._is_stored(digest, name, entry):
                        raise
            report(entry.size)

        return Task(entry.size, run)

    def _copy(self, digest: str, name: str, entry: Entry, origin: FileOrigin) -> None:
        from boto3.s3.transfer import TransferConfig

        self._s3.copy(
            {"Bucket": self.bucket, "Key": self._key(origin.digest, origin.name)},
            self.bucket,
            self._key(digest, name),
            ExtraArgs={**self._object_options(name, entry), "MetadataDirective": "REPLACE"},
            Config=TransferConfig(use_threads=False),
        )

    def write_tasks(self, digest: str, files: Mapping[str, HashedFile]) -> Iterable[Task]:
        """Return a task for each small file, and for each part of a large one."""
        uploads = self._list_uploads(self._key(digest, ""))
        resumable = {upload["Key"]: upload for upload in uploads if can_resume(upload)}
        for name, source in files.items():
            if source.entry.size <= PART_SIZE:
                yield Task(source.entry.size, partial(self._put, digest, name, source))
                continue
            key = self._key(digest, name)
            upload = Upload(
                self._s3,
                self.bucket,
                key,
                source,
                self._object_options(name, source.entry),
                partial(self._is_stored, digest, name, source.entry),
            )
            if key in resumable:
                yield from upload.tasks(resumable[key]["UploadId"], self._list_parts(resumable[key]))
            else:
                yield from upload.tasks(None, ())

    def _put(self, digest: str, name: str, source: HashedFile, report: ReportBytes) -> None:
        with aws.translate_errors(PackageError, f"writing {self.uri(digest)}{name}"):
            self._s3.put_object(
                Bucket=self.bucket,
                Key=self._key(digest, name),
                Body=source.read_part(0),
                ChecksumSHA256=sha256_header(source.parts[0]),
                **self._object_options(name, source.entry),
            )
        report(source.entry.size)

    def commit(self, digest: str, content: bytes) -> None:
        """Write one small object, and abort uploads that killed runs have left."""
        with aws.translate_errors(PackageError, f"writing {self.uri(digest)}{MANIFEST}"):
            self._s3.put_object(
                Bucket=self.bucket,
                Key=self._key(digest, MANIFEST),
                Body=content,
                ChecksumSHA256=sha256_header(hashlib.sha256(content).digest()),
                ContentType="application/json",
                **self._encrypted,
            )
            # Parts of an abandoned upload are billed until it is aborted.
            self._abort_uploads(digest)

    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """Read the object as a stream."""
        from botocore.exceptions import ClientError

        with aws.translate_errors(PackageError, f"reading {self.uri(digest)}{name}"):
            try:
                response = self._s3.get_object(Bucket=self.bucket, Key=self._key(digest, name))
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    raise FileNotFoundError(name) from None
                raise
            yield from response["Body"].iter_chunks(_BLOCK)

    def delete(self, digest: str) -> None:
        """Delete the manifest, then the other objects, then uploads that are not complete."""
        with aws.translate_errors(PackageError, f"deleting {self.uri(digest)}"):
            self._s3.delete_object(Bucket=self.bucket, Key=self._key(digest, MANIFEST))
            keys = [{"Key": stored["Key"]} for stored in self._list_objects(self._key(digest, ""))]
            for start in range(0, len(keys), 1000):
                batch = {"Objects": keys[start : start + 1000], "Quiet": True}
                errors = self._s3.delete_objects(Bucket=self.bucket, Delete=batch).get("Errors", [])
                if errors:
                    raise PackageError(
                        f"{self.uri(digest)} is deleted in part: {errors[0].get('Message')}; try again"
                    )
            self._abort_uploads(digest)

    def _abort_uploads(self, digest: str) -> None:
        for upload in self._list_uploads(self._key(digest, "")):
            with contextlib.suppress(self._s3.exceptions.NoSuchUpload):
                self._s3.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    def _object_options(self, name: str, entry: Entry) -> dict[str, Any]:
        """Return the arguments of S3 that set an object's content type, metadata and encryption."""
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return {"ContentType": content_type, "Metadata": {"sha256": entry.sha256}, **self._encrypted}

    def _key(self, digest: str, name: str) -> str:
        return f"{self._prefix}{digest}/{name}"

    def _list_objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        yield from self._pages("list_objects_v2", "Contents", Prefix=prefix)

    def _list_uploads(self, prefix: str) -> list[dict[str, Any]]:
        """List uploads that were neither completed nor aborted, the newest of a key last."""
        try:
            uploads = list(self._pages("list_multipart_uploads", "Uploads", Prefix=prefix))
        except PackageError as error:
            if "AccessDenied" not in str(error):
                raise
            self.notes.setdefault("uploads", _NO_LISTING)
            return []
        uploads = [upload for upload in uploads if not upload["Key"].endswith(_PROBE)]
        return sorted(uploads, key=lambda upload: upload["Initiated"])

    def _list_parts(self, upload: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            return list(self._pages("list_parts", "Parts", Key=upload["Key"], UploadId=upload["UploadId"]))
        except PackageError as error:
            # It was completed after it was listed, or the credentials do not allow listing parts.
            if "NoSuchUpload" not in str(error) and "AccessDenied" not in str(error):
                raise
            return []

    def _pages(self, operation: str, key: str, **arguments: str) -> Iterator[dict[str, Any]]:
        with aws.translate_errors(PackageError, f"reading s3://{self.bucket}/{self._prefix}"):
            for page in self._s3.get_paginator(operation).paginate(Bucket=self.bucket, **arguments):
                yield from page.get(key, ())
