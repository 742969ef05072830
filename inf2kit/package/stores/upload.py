"""A large file on its way to S3, piece by piece, each with its sha256."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from threading import Lock
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError
from inf2kit.package.hashing import Hashed, spans
from inf2kit.package.stores.base import Sent, Task

_ALGORITHM = "SHA256"


class Upload:
    """A multipart upload of one object.

    Args:
        s3: The client.
        bucket: Where the object goes.
        key: Its whole key.
        source: What is sent.
        stored_with: What is stored with the object: arguments of ``create_multipart_upload``.
        is_there: Whether the object is there, whole, whoever has sent it.
    """

    def __init__(
        self,
        s3: Any,
        bucket: str,
        key: str,
        source: Hashed,
        stored_with: Mapping[str, Any],
        is_there: Callable[[], bool],
    ) -> None:
        self._s3, self._doing = s3, f"writing s3://{bucket}/{key}"
        self._at = {"Bucket": bucket, "Key": key}
        self._source, self._stored_with, self._is_there = source, stored_with, is_there
        self._spans = spans(source.entry.size)
        self._sent: dict[int, dict[str, Any]] = {}
        self._lock = Lock()

    def tasks(self, begun: str | None, parts: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
        """The pieces that are still to be sent; the last one that ends completes the object.

        Args:
            begun: The id of an upload of the same key that was broken off, or that another one is at.
            parts: Those of it that are there.

        Raises:
            PackageError: the file was changed, or AWS refuses.
        """
        if begun is not None:
            self._at["UploadId"] = begun
            for part in parts:
                if part["PartNumber"] <= len(self._spans) and self._is_same(part):
                    self._sent[part["PartNumber"]] = _named(part["PartNumber"], part)
        else:
            with aws.translate_errors(PackageError, self._doing):
                answer = self._s3.create_multipart_upload(
                    **self._at, **self._stored_with, ChecksumAlgorithm=_ALGORITHM
                )
            self._at["UploadId"] = answer["UploadId"]
        missing = [number for number in range(1, len(self._spans) + 1) if number not in self._sent]
        for number in missing:
            yield Task(self._spans[number - 1][1], partial(self._send, number))
        if not missing:
            yield Task(0, lambda _sent: self._complete())

    def _send(self, number: int, sent: Sent) -> None:
        with aws.translate_errors(PackageError, self._doing):
            content = self._source.piece(number - 1)
            answer = self._unless_ended(
                self._s3.upload_part,
                PartNumber=number,
                Body=content,
                ChecksumSHA256=sha256_header(self._source.parts[number - 1]),
            )
        sent(len(content))
        if answer is None:
            return
        with self._lock:
            self._sent[number] = _named(number, answer)
            last = len(self._sent) == len(self._spans)
        if last:
            self._complete()

    def _complete(self) -> None:
        parts = [self._sent[number] for number in sorted(self._sent)]
        with aws.translate_errors(PackageError, self._doing):
            self._unless_ended(self._s3.complete_multipart_upload, MultipartUpload={"Parts": parts})

    def _unless_ended(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """The answer, or None where somebody else who publishes the same has completed the object."""
        from botocore.exceptions import ClientError

        try:
            return call(**self._at, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
        if not self._is_there():
            raise PackageError(f"{self._doing} was broken off by somebody else; run the same command again")
        return None

    def _is_same(self, part: Mapping[str, Any]) -> bool:
        """By its sha256; where S3 does not tell that, by its ETag, which is its MD5 where no key is used."""
        number = part["PartNumber"]
        if part["Size"] != self._spans[number - 1][1]:
            return False
        if "ChecksumSHA256" in part:
            return bool(part["ChecksumSHA256"] == sha256_header(self._source.parts[number - 1]))
        md5 = hashlib.md5(self._source.piece(number - 1), usedforsecurity=False).hexdigest()
        return bool(part["ETag"].strip('"') == md5)


def goes_on(begun: Mapping[str, Any]) -> bool:
    """Whether an upload that was broken off takes pieces with their sha256."""
    return bool(begun.get("ChecksumAlgorithm", _ALGORITHM) == _ALGORITHM)


def sha256_header(digest: bytes) -> str:
    """A sha256 as S3 takes it: it refuses what it receives otherwise."""
    return base64.b64encode(digest).decode()


def _named(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What completing an upload says of a part: S3 compares it with what it has."""
    named = {key: answer[key] for key in ("ETag", "ChecksumSHA256") if key in answer}
    return {"PartNumber": number, **named}
