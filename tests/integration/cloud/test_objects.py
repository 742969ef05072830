"""S3 in the cloud: large objects are files, and still what they were."""

from __future__ import annotations

import hashlib
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
def memory_of(pid: int) -> Iterator[list[float]]:
    """MiB of memory of a process that is its own and not a file's, sampled."""
    found: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            own = re.search(r"RssAnon:\s+(\d+) kB", status)
            found.append(int(own[1]) / 1024 if own else 0.0)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


@pytest.fixture
def bucket(aws: Callable[..., Any]) -> Iterator[Any]:
    s3 = aws("s3")
    s3.create_bucket(Bucket="large-objects")
    yield s3
    for item in s3.list_objects_v2(Bucket="large-objects").get("Contents", []):
        s3.delete_object(Bucket="large-objects", Key=item["Key"])
    s3.delete_bucket(Bucket="large-objects")


def test_a_large_object_comes_and_goes_without_being_held_in_memory(
    cloud: CloudSettings, bucket: Any, tmp_path: Path
) -> None:
    path, back = tmp_path / "large", tmp_path / "back"
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for number in range(_MEGABYTES):
            file.write(number.to_bytes(4, "big") + block[4:])
    with memory_of(cloud.pid) as samples:
        few = TransferConfig(max_concurrency=2)
        bucket.upload_file(str(path), "large-objects", "large", Config=few)
        bucket.download_file("large-objects", "large", str(back), Config=few)
        bucket.copy({"Bucket": "large-objects", "Key": "large"}, "large-objects", "copy")
    # What is on its way at a time, several times over; not the object, which plain moto has three times.
    assert max(samples) - samples[0] < _MEGABYTES * 0.75, (samples[0], max(samples))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
    copied = bucket.get_object(Bucket="large-objects", Key="copy")["Body"]
    assert hashlib.sha256(copied.read()).hexdigest() == digest


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20])
def test_objects_of_every_size_are_what_was_put(bucket: Any, size: int) -> None:
    content = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
    content = content[:size]
    etag = bucket.put_object(Bucket="large-objects", Key="object", Body=content)["ETag"]
    assert etag.strip('"') == hashlib.md5(content).hexdigest()  # noqa: S324 - S3's own
    found = bucket.get_object(Bucket="large-objects", Key="object")
    assert found["ContentLength"] == size
    assert found["Body"].read() == content
    assert bucket.head_object(Bucket="large-objects", Key="object")["ContentLength"] == size
    bucket.put_object(Bucket="large-objects", Key="object", Body=b"replaced")
    assert bucket.get_object(Bucket="large-objects", Key="object")["Body"].read() == b"replaced"


def test_ranges(bucket: Any) -> None:
    content = bytes(range(256)) * 8192
    bucket.put_object(Bucket="large-objects", Key="object", Body=content)
    for spec, wanted in (
        ("bytes=0-0", content[:1]),
        ("bytes=1000-2000", content[1000:2001]),
        ("bytes=-7", content[-7:]),
        (f"bytes={len(content) - 1}-", content[-1:]),
    ):
        found = bucket.get_object(Bucket="large-objects", Key="object", Range=spec)
        assert found["Body"].read() == wanted
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError, match="InvalidRange"):
        bucket.get_object(Bucket="large-objects", Key="object", Range=f"bytes={len(content)}-")


def test_parts_out_of_order_too_small_and_wrong(bucket: Any) -> None:
    where = {"Bucket": "large-objects", "Key": "parts"}
    upload = {**where, "UploadId": bucket.create_multipart_upload(**where)["UploadId"]}
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
    assert bucket.get_object(**where)["Body"].read() == large + small
    upload = {**where, "UploadId": bucket.create_multipart_upload(**where)["UploadId"]}
    etags = {number: bucket.upload_part(**upload, PartNumber=number, Body=small)["ETag"] for number in (1, 2)}
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]
    with pytest.raises(ClientError, match="EntityTooSmall"):
        bucket.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    bucket.abort_multipart_upload(**upload)
