"""A bucket whose policy demands encryption: an option sends the header, and a sentence names the policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main
from inf2kit.errors import PackageError
from inf2kit.package import collect, open_store, split_uri, verify
from inf2kit.package.hashing import PART_SIZE
from inf2kit.package.stores.encryption import Encryption, find_required
from tests.helpers import packages
from tests.helpers import strict_s3 as strict

PRESET = inf2kit.load_preset("smollm2-135m-local")
PLACE = "s3://models/llm"
KEY = "arn:aws:kms:us-east-1:123456789012:key/0123abcd-0123-0123-0123-0123456789ab"
METHOD, KEY_ID = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"


def deny(condition: dict[str, Any], action: object = "s3:PutObject") -> dict[str, Any]:
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": "arn:aws:s3:::models/*",
        "Condition": condition,
    }


def run_package(weights: Path, *arguments: str) -> Any:
    return CliRunner().invoke(
        main, ["package", str(weights), "--preset", PRESET.name, "--output", PLACE, *arguments]
    )


def test_every_write_has_the_header_that_the_policy_demands(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    # Copied in one call. The shard is sent, and copied, in parts.
    packages.write_json(weights / "labels.json", "x" * 2 * 2**20)
    demand = strict.DemandEncryption("aws:kms", KEY)
    with strict.strict_proxy(aws, demand) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        result = run_package(weights, "--sse", "aws:kms", "--sse-kms-key-id", KEY)
        assert result.exit_code == 0, result.output
        assert {"PUT", "POST"} <= set(demand.written), "small files and multipart uploads"
        store = open_store(PLACE, encryption=Encryption("aws:kms", KEY))
        contents = packages.without_vendored_code(collect(PRESET, weights))
        changed = packages.with_changed_code(contents, tmp_path)
        assert packages.publish(changed, store).copied
        assert "copy" in demand.written
        verify(open_store(PLACE), split_uri(result.stdout.strip())[1])
        s3 = boto3.client("s3")
        for stored in bucket.objects.all():
            head = s3.head_object(Bucket="models", Key=stored.key)
            assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY), stored.key


@pytest.mark.parametrize("policy", ["can be read", "cannot be read"])
def test_without_the_option_a_sentence_names_the_policy(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    statements = [
        deny({"StringNotEquals": {METHOD: "aws:kms"}}),
        deny({"StringNotEqualsIfExists": {KEY_ID: KEY}}),
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    boto3.client("s3").put_bucket_policy(Bucket="models", Policy=document)

    def deny_reading(call: strict.Call) -> str | None:
        return "AccessDenied" if policy == "cannot be read" and call.query == "policy" else None

    weights = packages.write_weights(tmp_path / "weights", length=1000)
    with strict.strict_proxy(aws, strict.DemandEncryption("aws:kms", KEY), deny_reading) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        sentence = run_package(weights).stderr.splitlines()[-1]
        other = run_package(weights, "--sse", "AES256").stderr.splitlines()[-1]
    named = f"aws:kms and the key {KEY}; add --sse aws:kms --sse-kms-key-id {KEY}"
    if policy == "can be read":
        assert sentence == other
        assert sentence == (
            "Error: the policy of the bucket 'models' denies what is written without the header "
            f"x-amz-server-side-encryption: {named}"
        )
    else:
        assert sentence.endswith(
            "or the bucket's policy demands encryption: ask its owner, and add --sse aws:kms"
        )
        assert other.endswith("or the bucket's policy demands another encryption than --sse AES256")


def test_a_role_that_may_not_write_is_not_told_about_encryption(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = packages.write_weights(tmp_path / "weights", length=1000)
    with strict.strict_proxy(aws, strict.deny_writes) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        sentence = run_package(weights).stderr.splitlines()[-1]
    assert sentence.endswith("your credentials do not allow it")


@pytest.mark.parametrize(
    ("statements", "required"),
    [
        ([deny({"StringNotEquals": {METHOD: "AES256"}})], Encryption("AES256")),
        ([deny({"StringNotEquals": {METHOD: ["aws:kms", "aws:kms:dsse"]}})], Encryption("aws:kms")),
        ([deny({"Null": {METHOD: "true"}})], Encryption("aws:kms")),
        (
            [deny({"Null": {METHOD: "true"}}), deny({"StringNotEquals": {METHOD: "AES256"}})],
            Encryption("AES256"),
        ),
        ([deny({"StringNotLikeIfExists": {KEY_ID: KEY}}, ["s3:*"])], Encryption("aws:kms", KEY)),
        ([deny({"Bool": {"aws:SecureTransport": "false"}}, "s3:*")], None),
        ([deny({"StringNotEquals": {METHOD: "AES256"}}, "s3:GetObject")], None),
        ([], None),
    ],
)
def test_the_demand_is_read_in_the_policy(
    statements: list[dict[str, Any]], required: Encryption | None
) -> None:
    assert find_required({"Version": "2012-10-17", "Statement": statements}) == required


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights", length=1000)
    assert "add --sse aws:kms" in run_package(weights, "--sse-kms-key-id", KEY).stderr
    assert "add --sse aws:kms" in run_package(weights, "--sse-kms-key-id", KEY, "--sse", "AES256").stderr
    with pytest.raises(PackageError, match="--sse is for buckets"):
        open_store(str(tmp_path), encryption=Encryption("AES256"))


def test_a_copy_that_another_publisher_ends_counts_where_the_object_is_whole(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two who publish the same aborts, at its end, what the second is still copying."""
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    contents = packages.without_vendored_code(collect(PRESET, weights))
    first = packages.publish(contents, open_store(PLACE))
    changed = packages.with_changed_code(contents, tmp_path)
    ended: list[str] = []

    def end_copies(call: strict.Call) -> str | None:
        if "x-amz-copy-source" not in call.headers or "uploadId" not in call.query:
            return None
        bucket, _, key = call.path.lstrip("/").partition("/")
        if key not in ended:
            ended.append(key)
            origin = {"Bucket": bucket, "Key": call.headers["x-amz-copy-source"].partition("/")[2]}
            boto3.client("s3", endpoint_url=aws).copy_object(Bucket=bucket, Key=key, CopySource=origin)
        return "NoSuchUpload"

    with strict.strict_proxy(aws, end_copies) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        plan = packages.publish(changed, open_store(PLACE))
        assert open_store(PLACE).read_manifest(plan.digest)
    assert ended
    assert set(first.sent) & set(plan.copied)
