"""Packages in S3 when something is wrong: somebody else's bucket, changed files, two publishers, prune."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.checkpoint import name_of
from inf2kit.cli.commands import main
from inf2kit.errors import PackageError
from inf2kit.package import collect, open_store, split_uri, verify
from inf2kit.package.hashing import PART_SIZE
from inf2kit.package.stores.bucket import find_foreign_grants
from tests.helpers import packages
from tests.helpers import strict_s3 as strict
from tests.helpers.servers import PATIENCE_S, wait_until

PRESET = inf2kit.load_preset("smollm2-135m-local")
PLACE = "s3://models/llm"
PRUNE = ("prune", PLACE, "--keep", 0, "--older-than", 0)
SHARD = "model-00001-of-00001.safetensors"


def run_package(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["package", *map(str, arguments)])


def run_packages(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["packages", *map(str, arguments)])


def publish_package(weights: Path, *arguments: object) -> str:
    result = run_package(weights, "--preset", PRESET.name, "--output", PLACE, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def publish_small(weights: Path) -> str:
    return packages.publish_small(PRESET, weights, open_store(PLACE))


def use(uri: str, name: str = "in-use") -> None:
    """A model of SageMaker that loads a package."""
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    boto3.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/x",
        PrimaryContainer={"Image": "x", "ModelDataSource": {"S3DataSource": source}},
    )


def serve(model: str) -> None:
    """An endpoint that serves a model."""
    sagemaker = boto3.client("sagemaker")
    variant = {
        "VariantName": "main",
        "ModelName": model,
        "InstanceType": "ml.inf1.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="live", EndpointConfigName="config")


def digests(bucket: Any) -> set[str]:
    return {stored.key.split("/")[1] for stored in bucket.objects.all()}


def test_every_call_names_the_owner_of_the_bucket(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    with strict.strict_proxy(aws, strict.require_owner) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        uri = publish_package(weights)
        assert run_packages("verify", uri).exit_code == 0
        contents = packages.without_vendored_code(collect(PRESET, weights))
        again = packages.publish(packages.with_changed_code(contents, tmp_path), open_store(PLACE))
        assert again.copied
        tasks = list(
            open_store(PLACE).write_tasks("0" * 32, {SHARD: contents.hashed_file(SHARD)})
        )  # an upload that is left
        assert len(tasks) == 2
        assert run_packages("list", PLACE).exit_code == 0
        assert run_packages(*PRUNE, "--yes").stdout.count("deleted") == 3
        refused = run_package(
            weights, "--preset", PRESET.name, "--output", PLACE, "--bucket-owner", "999999999999"
        )
    assert refused.exit_code == 1
    assert "the bucket belongs to another account" in refused.stderr.splitlines()[-1]
    assert "give an AWS account" in run_packages("list", PLACE, "--bucket-owner", "me").stderr


@pytest.mark.parametrize("name", ["config.json", SHARD])
@pytest.mark.parametrize("place", ["a bucket", "a folder"])
def test_a_file_that_changes_after_it_was_hashed_makes_no_package(
    bucket: Any, tmp_path: Path, name: str, place: str
) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    store = open_store(PLACE if place == "a bucket" else str(tmp_path / "out"))
    contents = packages.without_vendored_code(collect(PRESET, weights))
    content = bytearray((weights / name).read_bytes())
    content[-2] ^= 1
    (weights / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} was changed while it was packaged"):
        packages.publish(contents, store)
    assert store.read_manifest(contents.manifest.digest) is None


@pytest.mark.parametrize("damage", ["a file is gone", "the manifest is another one"])
def test_publishing_again_mends_a_package_that_only_looks_whole(
    bucket: Any, tmp_path: Path, damage: str
) -> None:
    weights = packages.write_weights(tmp_path / "weights", length=1000)
    key = publish_small(weights).removeprefix("s3://models/")
    if damage == "a file is gone":
        bucket.Object(f"{key}config.json").delete()
    else:
        bucket.Object(f"{key}inf2kit.json").put(Body=b"{}")
    verify(open_store(PLACE), split_uri(publish_small(weights))[1])


def test_bytes_go_up_with_their_sha256_which_s3_compares(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    with strict.strict_proxy(aws, strict.require_sha256) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        uri = publish_small(weights)
        verify(open_store(PLACE), split_uri(uri)[1])


def test_two_who_publish_the_same_do_not_disturb_each_other(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has begun; another one goes on with its upload, completes it, and makes the package whole."""
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=3 * PART_SIZE)
    contents = packages.without_vendored_code(collect(PRESET, weights))
    digest = contents.manifest.digest
    with strict.strict_proxy(aws, strict.RefuseEndedUploads()) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        begun = list(open_store(PLACE).write_tasks(digest, {SHARD: contents.hashed_file(SHARD)}))
        begun[0].run(lambda _count: None)
        packages.publish(contents, open_store(PLACE))
        for task in begun[1:]:
            task.run(lambda _count: None)
        verify(open_store(PLACE), digest)
        open_store(PLACE).delete(digest)
        with pytest.raises(PackageError, match="broken off by another process; run the same command again"):
            begun[1].run(lambda _count: None)


def test_one_who_is_killed_beside_another_leaves_a_whole_package(bucket: Any, tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=8 * PART_SIZE)
    command = [
        sys.executable,
        "-m",
        "inf2kit.cli",
        "package",
        weights,
        "--preset",
        PRESET.name,
        "--output",
        PLACE,
    ]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as other:
        client = boto3.client("s3")

        def begun() -> bool:
            uploads = client.list_multipart_uploads(Bucket="models").get("Uploads", [])
            return any(upload["Key"].endswith(SHARD) for upload in uploads)

        wait_until(begun, "one of them sends the shard")
        os.kill(killed.pid, signal.SIGKILL)
        output, _ = other.communicate(timeout=PATIENCE_S)
        assert other.returncode == 0, output
    digest = collect(PRESET, weights, model_name=name_of(weights)).manifest.digest
    verify(open_store(PLACE), digest)
    assert client.list_multipart_uploads(Bucket="models").get("Uploads", []) == []


def test_a_package_that_is_deployed_while_prune_asks_stays(bucket: Any, tmp_path: Path) -> None:
    uri = publish_small(packages.write_weights(tmp_path / "weights", length=1000))
    command = [sys.executable, "-m", "inf2kit.cli", "packages", *map(str, PRUNE)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        question = ""
        while "[y/N]" not in question:
            letter = process.stdout.read(1)
            assert letter, question
            question += letter
        use(uri)
        answer, _ = process.communicate("y\n", timeout=PATIENCE_S)
    assert f"kept {uri}: in-use uses it meanwhile" in answer
    assert process.returncode == 0
    verify(open_store(PLACE), split_uri(uri)[1])


@pytest.mark.parametrize("gone", ["model", "endpoint_config"])
def test_nothing_is_pruned_while_an_endpoint_serves_what_cannot_be_described(
    bucket: Any, tmp_path: Path, gone: str
) -> None:
    """As after a deployment that was rolled back beside its stack: the model of what serves is deleted."""
    uri = publish_small(packages.write_weights(tmp_path / "weights", length=1000))
    use(uri)
    serve("in-use")
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_model(ModelName="in-use")
    if gone == "endpoint_config":
        sagemaker.delete_endpoint_config(EndpointConfigName="config")
    result = run_packages(*PRUNE, "--yes")
    assert result.exit_code == 1
    assert "the endpoint live serves" in result.stderr
    assert "nothing more is pruned; update that endpoint, or delete it" in result.stderr
    verify(open_store(PLACE), split_uri(uri)[1])
    assert run_packages("list", PLACE).exit_code == 0
    sagemaker.delete_endpoint(EndpointName="live")
    assert "deleted" in run_packages(*PRUNE, "--yes").stdout


def test_a_model_that_loads_a_prefix_above_uses_every_package_below(bucket: Any, tmp_path: Path) -> None:
    publish_small(packages.write_weights(tmp_path / "weights", length=1000))
    use("s3://models/")
    assert run_packages(*PRUNE, "--yes").stdout == "nothing to prune\n"


def _policy(effect: str, principal: object) -> dict[str, Any]:
    statement = {
        "Effect": effect,
        "Principal": principal,
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::models/*",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    ("effect", "principal", "foreign"),
    [
        ("Allow", {"AWS": "arn:aws:iam::999999999999:root"}, ["arn:aws:iam::999999999999:root"]),
        ("Allow", {"AWS": [strict.ACCOUNT, "999999999999"]}, ["999999999999"]),
        ("Allow", "*", ["*"]),
        ("Allow", {"CanonicalUser": "79a5"}, ["79a5"]),
        ("Allow", {"AWS": f"arn:aws:iam::{strict.ACCOUNT}:role/x"}, []),
        ("Allow", {"Service": "sagemaker.amazonaws.com"}, []),
        ("Deny", "*", []),
    ],
)
def test_whom_a_policy_lets_in(effect: str, principal: object, foreign: list[str]) -> None:
    assert find_foreign_grants(_policy(effect, principal), strict.ACCOUNT) == foreign


def test_prune_refuses_where_the_bucket_lets_other_accounts_in(bucket: Any, tmp_path: Path) -> None:
    """Their models cannot be seen from here."""
    uri = publish_small(packages.write_weights(tmp_path / "weights", length=1000))
    policy = _policy("Allow", {"AWS": "arn:aws:iam::999999999999:root"})
    bucket.Policy().put(Policy=json.dumps(policy))
    result = run_packages(*PRUNE, "--yes")
    assert result.exit_code == 1
    assert "the policy of the bucket 'models' lets in arn:aws:iam::999999999999:root" in result.stderr
    verify(open_store(PLACE), split_uri(uri)[1])
    assert f"deleted {uri}" in run_packages(*PRUNE, "--yes", "--foreign-accounts-checked").stdout


def test_a_role_that_may_not_list_uploads_publishes_all_the_same(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AmazonSageMakerFullAccess is such a role: it cannot resume uploads, and one note says so."""
    weights = packages.write_weights(tmp_path / "weights", shards=1, length=PART_SIZE + 5)
    with strict.strict_proxy(aws, strict.deny_listing_uploads) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        result = run_package(weights, "--preset", PRESET.name, "--output", PLACE)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("do not allow s3:ListBucketMultipartUploads") == 1
        assert run_packages("list", PLACE).exit_code == 0
        verify(open_store(PLACE), split_uri(result.stdout.strip())[1])


def test_a_bucket_that_may_not_be_written_is_told_before_anything_is_read(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with strict.strict_proxy(aws, strict.deny_writes) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        result = run_package(tmp_path / "nowhere", "--preset", PRESET.name, "--output", PLACE)
    assert result.exit_code == 1
    assert "writing to s3://models/llm/ failed: refused (AccessDenied)" in result.stderr.splitlines()[-1]
    assert "hashing" not in result.stderr


@pytest.mark.parametrize("name", ["", "notes/"])
def test_a_folder_that_the_console_has_made_is_found_before_a_deployment_fails(
    bucket: Any, tmp_path: Path, name: str
) -> None:
    weights = packages.write_weights(tmp_path / "weights", length=1000)
    uri = publish_small(weights)
    bucket.put_object(Key=f"{uri.removeprefix('s3://models/')}{name}", Body=b"")
    sentence = f"{name} is an object whose key ends in a slash"
    result = run_packages("verify", uri)
    assert result.exit_code == 1
    assert sentence in result.stderr
    with pytest.raises(PackageError, match=sentence):
        publish_small(weights)
