"""A multipart upload of one large file, each part sent with its sha256."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from threading import Lock
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError
from inf2kit.package.hashing import HashedFile, part_spans
from inf2kit.package.stores.base import ReportBytes, Task

_ALGORITHM = "SHA256"


class Upload:
    """A multipart upload of one object.

    Args:
        s3: The client of S3.
        bucket: The object's bucket.
        key: The object's key.
        source: The file to send.
        object_options: Content type and metadata: arguments of ``create_multipart_upload``.
        is_stored: Returns whether the bucket holds the complete object, whoever has sent it.
    """

    def __init__(
        self,
        s3: Any,
        bucket: str,
        key: str,
        source: HashedFile,
        object_options: Mapping[str, Any],
        is_stored: Callable[[], bool],
    ) -> None:
        self._s3, self._action = s3, f"writing s3://{bucket}/{key}"
        self._target = {"Bucket": bucket, "Key": key}
        self._source, self._object_options, self._is_stored = source, object_options, is_stored
        self._spans = part_spans(source.entry.size)
        self._parts: dict[int, dict[str, Any]] = {}
        self._lock = Lock()

    def tasks(self, upload_id: str | None, parts: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
        """Return a task for each part that is still to be sent; the last one to end completes the object.

        Args:
            upload_id: An upload of the same key to resume; another process may be sending it too.
            parts: The parts that it has received.

        Raises:
            PackageError: the file has changed, or AWS refuses a call.
        """
        if upload_id is not None:
            self._target["UploadId"] = upload_id
            for part in parts:
                if part["PartNumber"] <= len(self._spans) and self._is_same(part):
                    self._parts[part["PartNumber"]] = _part_reference(part["PartNumber"], part)
        else:
            with aws.translate_errors(PackageError, self._action):
                response = self._s3.create_multipart_upload(
                    **self._target, **self._object_options, ChecksumAlgorithm=_ALGORITHM
                )
            self._target["UploadId"] = response["UploadId"]
        missing = [number for number in range(1, len(self._spans) + 1) if number not in self._parts]
        for number in missing:
            yield Task(self._spans[number - 1][1], partial(self._send, number))
        if not missing:
            yield Task(0, lambda _report: self._complete())

    def _send(self, number: int, report: ReportBytes) -> None:
        with aws.translate_errors(PackageError, self._action):
            content = self._source.read_part(number - 1)
            response = self._call_unless_completed(
                self._s3.upload_part,
                PartNumber=number,
                Body=content,
                ChecksumSHA256=sha256_header(self._source.parts[number - 1]),
            )
        report(len(content))
        if response is None:
            return
        with self._lock:
            self._parts[number] = _part_reference(number, response)
            last = len(self._parts) == len(self._spans)
        if last:
            self._complete()

    def _complete(self) -> None:
        parts = [self._parts[number] for number in sorted(self._parts)]
        with aws.translate_errors(PackageError, self._action):
            self._call_unless_completed(self._s3.complete_multipart_upload, MultipartUpload={"Parts": parts})

    def _call_unless_completed(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """Call S3; return None where another process that publishes the same has completed the object."""
        from botocore.exceptions import ClientError

        try:
            return call(**self._target, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
        if not self._is_stored():
            raise PackageError(
                f"{self._action} was broken off by another process; run the same command again"
            )
        return None

    def _is_same(self, part: Mapping[str, Any]) -> bool:
        """Compare the sha256 of a part; where S3 has none, the ETag, which is an MD5 without encryption."""
        number = part["PartNumber"]
        if part["Size"] != self._spans[number - 1][1]:
            return False
        if "ChecksumSHA256" in part:
            return bool(part["ChecksumSHA256"] == sha256_header(self._source.parts[number - 1]))
        md5 = hashlib.md5(self._source.read_part(number - 1), usedforsecurity=False).hexdigest()
        return bool(part["ETag"].strip('"') == md5)


def can_resume(upload: Mapping[str, Any]) -> bool:
    """Return whether an upload that was broken off takes parts with their sha256."""
    return bool(upload.get("ChecksumAlgorithm", _ALGORITHM) == _ALGORITHM)


def sha256_header(digest: bytes) -> str:
    """Encode a sha256 as S3 takes it; S3 refuses a body with another one."""
    return base64.b64encode(digest).decode()


def _part_reference(number: int, response: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``complete_multipart_upload`` needs of a part; S3 compares it with what it has received."""
    hashes = {key: response[key] for key in ("ETag", "ChecksumSHA256") if key in response}
    return {"PartNumber": number, **hashes}
