"""Packages in S3: the command as a user runs it, real boto3, against moto's server."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main
from inf2kit.package import collect, list_packages, open_store, split_uri, verify
from inf2kit.package.stores.s3 import PART_SIZE
from tests.helpers import packages
from tests.helpers.servers import wait_until

PRESET = "smollm2-135m-local"
PLACE = "s3://models/llm"


def run_package(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["package", *map(str, arguments)])


def run_packages(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["packages", *map(str, arguments)])


def publish_package(weights: Path) -> str:
    result = run_package(weights, "--preset", PRESET, "--output", PLACE)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_package_goes_up_whole_and_once(bucket: Any, tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    uri = publish_package(weights)
    assert re.fullmatch(r"s3://models/llm/[0-9a-f]{32}/", uri)
    keys = {stored.key for stored in bucket.objects.all()}
    contents = collect(inf2kit.load_preset(PRESET), weights)
    prefix = uri.removeprefix("s3://models/")
    assert keys == {prefix + name for name in (*contents.files, "inf2kit.json")}
    newest = max(bucket.objects.all(), key=lambda stored: stored.last_modified)
    assert newest.last_modified == bucket.Object(f"{prefix}inf2kit.json").last_modified, (
        "the manifest is last"
    )
    assert verify(open_store(PLACE), split_uri(uri)[1]).files == contents.manifest.files
    assert "there already, and whole" in run_package(weights, "--preset", PRESET, "--output", PLACE).stderr
    assert run_packages("verify", uri).stdout.startswith("whole: ")


def test_dry_run_sends_nothing(bucket: Any, tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    result = run_package(weights, "--preset", PRESET, "--output", PLACE, "--dry-run")
    assert re.search(r"\d+ files, \d+\.\d MB, to send", result.stdout)
    assert list(bucket.objects.all()) == []


def test_one_changed_line_of_code_sends_code_only(bucket: Any, tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights", length=PART_SIZE + 5)
    contents = packages.without_vendored_code(collect(inf2kit.load_preset(PRESET), weights))
    store = open_store(PLACE)
    packages.publish(contents, store)
    again = packages.publish(packages.with_changed_code(contents, tmp_path), store)
    assert all(name.endswith((".safetensors",)) for name in again.copied)
    assert len(again.copied) == 2
    assert all(name.startswith("code/") or name.endswith(".json") for name in again.sent)
    verify(store, again.digest)
    heads = [bucket.Object(f"llm/{again.digest}/{name}").metadata for name in again.copied]
    assert [head["sha256"] for head in heads] == [
        contents.manifest.files[name].sha256 for name in again.copied
    ]


def test_a_killed_upload_does_not_look_whole_and_goes_on_with_the_rest(
    aws: str, bucket: Any, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=16 * PART_SIZE)
    shard = "model-00001-of-00001.safetensors"
    command = [sys.executable, "-m", "inf2kit.cli", "package", weights, "--preset", PRESET, "--output", PLACE]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    client = boto3.client("s3")

    def parts() -> dict[int, dict[str, Any]]:
        uploads = client.list_multipart_uploads(Bucket="models").get("Uploads", [])
        listings = [
            client.list_parts(Bucket="models", Key=upload["Key"], UploadId=upload["UploadId"])
            for upload in uploads
            if upload["Key"].endswith(shard)
        ]
        return {part["PartNumber"]: part for listing in listings for part in listing.get("Parts", [])}

    wait_until(lambda: len(parts()) >= 3, "three parts are sent")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = wait_until(lambda: parts() if parts() == parts() else None, "moto has taken what was sent")
    # moto lists a part whose sender was killed in the middle of it; its ETag tells.
    content = (weights / shard).read_bytes()
    whole = [
        number
        for number, part in before.items()
        if part["ETag"].strip('"')
        == hashlib.md5(content[(number - 1) * PART_SIZE : number * PART_SIZE]).hexdigest()  # noqa: S324
    ]
    assert 3 <= len(whole) < 17, "the kill came too late for this test to mean anything"
    (left,) = list_packages(open_store(PLACE))
    assert not left.stored.whole
    assert left.stored.size >= 3 * PART_SIZE

    contents = collect(inf2kit.load_preset(PRESET), weights)
    tasks = list(open_store(PLACE).write_tasks(left.stored.digest, {shard: contents.hashed_file(shard)}))
    assert sum(task.size for task in tasks) == contents.manifest.files[shard].size - sum(
        before[number]["Size"] for number in whole
    )
    subprocess.run(command, check=True, capture_output=True)
    verify(open_store(PLACE), left.stored.digest)
    assert parts() == {}
    figure(f"package: killed with {len(whole)} of 17 parts sent; {len(tasks)} parts were sent afterwards")


def test_list_says_who_uses_a_package_and_prune_spares_it(bucket: Any, tmp_path: Path) -> None:
    uris = [
        packages.publish_small(
            inf2kit.load_preset(PRESET),
            packages.write_weights(tmp_path / f"weights{number}", length=1000 + number),
            open_store(PLACE),
        )
        for number in range(2)
    ]
    boto3.client("sagemaker").create_model(
        ModelName="in-use",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/x",
        PrimaryContainer={
            "Image": "x",
            "ModelDataSource": {
                "S3DataSource": {"S3Uri": uris[0], "S3DataType": "S3Prefix", "CompressionType": "None"}
            },
        },
    )
    rows = run_packages("list", PLACE).stdout.splitlines()
    assert [row.split()[-1] for row in rows[1:] if uris[0].split("/")[-2] in row] == ["in-use"]
    spare = run_packages("prune", PLACE, "--keep", 0, "--older-than", 0, "--dry-run").stdout.splitlines()
    assert {line.split()[0] for line in spare} == set(uris[1:])
    assert run_packages("prune", PLACE, "--keep", 0, "--older-than", 0, "--yes").exit_code == 0
    assert {stored.key.split("/")[1] for stored in bucket.objects.all()} == {uris[0].split("/")[-2]}
    assert (
        run_packages("prune", PLACE, "--keep", 0, "--older-than", 0, "--yes").stdout == "nothing to prune\n"
    )


def test_prune_asks_sagemaker_where_the_bucket_is(aws: str, tmp_path: Path) -> None:
    """Whatever region the user is in: models load packages from their own region only."""
    far = "eu-west-1"
    boto3.client("s3", region_name=far).create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": far}
    )
    weights = packages.write_weights(tmp_path / "weights", length=1000)
    uri = run_package(weights, "--preset", PRESET, "--output", "s3://far/x", "--region", far).stdout.strip()
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    boto3.client("sagemaker", region_name=far).create_model(
        ModelName="far-away",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/x",
        PrimaryContainer={"Image": "x", "ModelDataSource": {"S3DataSource": source}},
    )
    result = run_packages("prune", "s3://far/x", "--keep", 0, "--older-than", 0, "--yes")
    assert result.stdout == "nothing to prune\n"


def test_a_flipped_byte_in_the_bucket_is_found(bucket: Any, tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    uri = packages.publish_small(inf2kit.load_preset(PRESET), weights, open_store(PLACE))
    key = f"{uri.removeprefix('s3://models/')}model-00001-of-00002.safetensors"
    content = bytearray(bucket.Object(key).get()["Body"].read())
    content[-1] ^= 1
    bucket.Object(key).put(Body=bytes(content))
    result = run_packages("verify", uri)
    assert result.exit_code == 1
    assert "model-00001-of-00002.safetensors was changed" in result.stderr.splitlines()[-1]


def test_a_bucket_that_is_not_there(aws: str, tmp_path: Path) -> None:
    result = run_package(
        packages.write_weights(tmp_path / "weights"), "--preset", PRESET, "--output", "s3://no-such/x"
    )
    assert result.exit_code == 1
    assert (
        "'no-such' failed: Not Found (404); it does not exist; correct the name"
        in result.stderr.splitlines()[-1]
    )


def test_a_bucket_in_another_region(aws: str, tmp_path: Path) -> None:
    boto3.client("s3", region_name="eu-west-1").create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    result = run_package(
        packages.write_weights(tmp_path / "weights"), "--preset", PRESET, "--output", "s3://far/x"
    )
    assert result.exit_code == 1
    assert "'far' is in eu-west-1, and you deploy in us-east-1" in result.stderr.splitlines()[-1]


def test_no_credentials(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = run_package(packages.write_weights(tmp_path / "weights"), "--preset", PRESET, "--output", PLACE)
    assert result.exit_code == 1
    assert "needs AWS credentials, and none were found" in result.stderr.splitlines()[-1]
