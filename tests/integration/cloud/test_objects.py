"""S3 objects in files: their content, their ranges and parts, and the server's memory."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.settings import CloudSettings

_MEGABYTES = 320


@contextmanager
def sample_memory(pid: int) -> Iterator[list[float]]:
    """Sample the anonymous memory of a process in MiB."""
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.02):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            anonymous = re.search(r"RssAnon:\s+(\d+) kB", status)
            samples.append(int(anonymous[1]) / 1024 if anonymous else 0.0)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()


@pytest.fixture
def bucket(aws: Callable[..., Any]) -> Iterator[Any]:
    s3 = aws("s3")
    s3.create_bucket(Bucket="large-objects")
    yield s3
    for item in s3.list_objects_v2(Bucket="large-objects").get("Contents", []):
        s3.delete_object(Bucket="large-objects", Key=item["Key"])
    s3.delete_bucket(Bucket="large-objects")


def test_a_large_object_is_not_held_in_memory(cloud: CloudSettings, bucket: Any, tmp_path: Path) -> None:
    path, back = tmp_path / "large", tmp_path / "back"
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for number in range(_MEGABYTES):
            file.write(number.to_bytes(4, "big") + block[4:])
    with sample_memory(cloud.pid) as samples:
        transfer = TransferConfig(max_concurrency=2)
        bucket.upload_file(str(path), "large-objects", "large", Config=transfer)
        bucket.download_file("large-objects", "large", str(back), Config=transfer)
        bucket.copy({"Bucket": "large-objects", "Key": "large"}, "large-objects", "copy")
    # The parts in transit count several times; plain moto holds the whole object three times.
    assert max(samples) - samples[0] < _MEGABYTES * 0.75, (samples[0], max(samples))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
    copied = bucket.get_object(Bucket="large-objects", Key="copy")["Body"]
    assert hashlib.sha256(copied.read()).hexdigest() == digest


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20])
def test_objects_of_every_size_have_the_content_that_was_put(bucket: Any, size: int) -> None:
    content = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
    content = content[:size]
    etag = bucket.put_object(Bucket="large-objects", Key="object", Body=content)["ETag"]
    assert etag.strip('"') == hashlib.md5(content).hexdigest()  # noqa: S324 - S3's own ETag
    response = bucket.get_object(Bucket="large-objects", Key="object")
    assert response["ContentLength"] == size
    assert response["Body"].read() == content
    assert bucket.head_object(Bucket="large-objects", Key="object")["ContentLength"] == size
    bucket.put_object(Bucket="large-objects", Key="object", Body=b"replaced")
    assert bucket.get_object(Bucket="large-objects", Key="object")["Body"].read() == b"replaced"


def test_ranges(bucket: Any) -> None:
    content = bytes(range(256)) * 8192
    bucket.put_object(Bucket="large-objects", Key="object", Body=content)
    for spec, expected in (
        ("bytes=0-0", content[:1]),
        ("bytes=1000-2000", content[1000:2001]),
        ("bytes=-7", content[-7:]),
        (f"bytes={len(content) - 1}-", content[-1:]),
    ):
        response = bucket.get_object(Bucket="large-objects", Key="object", Range=spec)
        assert response["Body"].read() == expected
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError, match="InvalidRange"):
        bucket.get_object(Bucket="large-objects", Key="object", Range=f"bytes={len(content)}-")


def test_parts_out_of_order_too_small_and_wrong(bucket: Any) -> None:
    key = {"Bucket": "large-objects", "Key": "parts"}
    upload = {**key, "UploadId": bucket.create_multipart_upload(**key)["UploadId"]}
    large, small = b"a" * (5 * 2**20), b"b" * 10
    etags = {
        number: bucket.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
        for number, body in ((2, small), (1, large))
    }
    wrong = [{"PartNumber": 1, "ETag": '"0"'}]
    with pytest.raises(ClientError, match="InvalidPart"):
        bucket.complete_multipart_upload(**upload, MultipartUpload={"Parts": wrong})
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]
    bucket.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert bucket.get_object(**key)["Body"].read() == large + small
    upload = {**key, "UploadId": bucket.create_multipart_upload(**key)["UploadId"]}
    etags = {number: bucket.upload_part(**upload, PartNumber=number, Body=small)["ETag"] for number in (1, 2)}
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]
    with pytest.raises(ClientError, match="EntityTooSmall"):
        bucket.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    bucket.abort_multipart_upload(**upload)


def test_a_policy_that_demands_encryption_is_enforced(bucket: Any) -> None:
    """Without the header S3 denies objects, copies and uploads in parts; a part has that of its upload."""
    method, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
    resource = "arn:aws:s3:::large-objects/*"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": resource}
    statements = [
        {**deny, "Condition": {"StringNotEquals": {method: "aws:kms"}}},
        {**deny, "Condition": {"Null": {key: "true"}}},
        {**deny, "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    bucket.put_object(Bucket="large-objects", Key="before", Body=b"x")
    bucket.put_bucket_policy(Bucket="large-objects", Policy=policy)
    copied = {"CopySource": {"Bucket": "large-objects", "Key": "before"}}
    encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/1"}
    for options in ({}, {"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "aws:kms"}):
        for call, arguments in (
            (bucket.put_object, {"Body": b"x"}),
            (bucket.copy_object, copied),
            (bucket.create_multipart_upload, {}),
        ):
            with pytest.raises(ClientError, match="explicit deny in a resource-based policy") as denied:
                call(Bucket="large-objects", Key="after", **arguments, **options)
            assert denied.value.response["Error"]["Code"] == "AccessDenied"
    bucket.put_object(Bucket="large-objects", Key="after", Body=b"x", **encrypted)
    bucket.copy_object(Bucket="large-objects", Key="copy", **copied, **encrypted)
    target = {"Bucket": "large-objects", "Key": "parts"}
    target["UploadId"] = bucket.create_multipart_upload(**target, **encrypted)["UploadId"]
    etag = bucket.upload_part(**target, PartNumber=1, Body=b"x")["ETag"]
    bucket.complete_multipart_upload(**target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert bucket.get_object(Bucket="large-objects", Key="parts")["Body"].read() == b"x"
