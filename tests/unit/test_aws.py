"""Clients of AWS and the sentences that its errors become."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    UnknownRegionError,
)
from botocore.parsers import ResponseParserError

from inf2kit import aws
from inf2kit.errors import PackageError


@pytest.fixture(autouse=True)
def _without_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ClientError({"Error": {"Code": "NoSuchBucket", "Message": "There is none"}}, "GetObject"),
            "reading the bucket failed: There is none (NoSuchBucket); create the bucket, or correct its name",
        ),
        (
            ClientError({"Error": {"Code": "Odd"}}, "GetObject"),
            "reading the bucket failed: Odd (Odd); see the message of AWS",
        ),
        (
            NoCredentialsError(),
            "reading the bucket needs AWS credentials, and none were found; "
            "run 'aws configure', or set AWS_PROFILE",
        ),
        (NoRegionError(), "reading the bucket needs a region; give --region, or set AWS_REGION"),
        (
            EndpointConnectionError(endpoint_url="https://s3"),
            'reading the bucket failed: Could not connect to the endpoint URL: "https://s3"; try again',
        ),
        (
            ResponseParserError("Unable to parse response"),
            "reading the bucket failed: the answer is not AWS's; is there a proxy or a login page between?",
        ),
        (S3UploadFailedError("Failed to upload."), "reading the bucket failed: Failed to upload; try again"),
    ],
)
def test_an_error_of_aws_is_a_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(PackageError) as raised, aws.translate_errors(PackageError, "reading the bucket"):
        raise error
    assert str(raised.value) == sentence
    assert raised.value.__suppress_context__


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(KeyError), aws.translate_errors(PackageError, "reading the bucket"):
        raise KeyError("x")


def test_the_region_is_the_one_that_cdk_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws.configured_region() is None
    with pytest.raises(NoRegionError):
        aws.default_region()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert aws.default_region() == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert aws.default_region() == aws.client("s3").meta.region_name == "ap-south-1"
    session = boto3.session.Session(region_name="us-west-2")
    assert aws.client("s3", session=session).meta.region_name == "us-west-2"
    assert aws.client("s3", "sa-east-1", session=session).meta.region_name == "sa-east-1"


CONFIG = """
[default]
region = eu-north-1
[profile mine]
region = us-west-2
[profile without-region]
output = json
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration with a default profile and two others."""
    (tmp_path / "config").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


#: Variables of the environment, and the region that the CDK and inf2kit take from them.
REGIONS = [
    ({}, "eu-north-1"),
    ({"AWS_PROFILE": "mine"}, "us-west-2"),
    ({"AWS_PROFILE": "without-region"}, "eu-north-1"),
    ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "ap-south-1"}, "ap-south-1"),
    ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": ""}, "us-west-2"),
    ({"AWS_DEFAULT_REGION": "ap-south-1", "AWS_REGION": "sa-east-1", "AWS_PROFILE": "mine"}, "sa-east-1"),
    ({"AWS_DEFAULT_REGION": "ap-south-1", "AWS_REGION": ""}, "ap-south-1"),
]


@pytest.mark.parametrize(("variables", "region"), REGIONS)
@pytest.mark.usefixtures("config")
def test_one_order_of_regions(
    variables: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert aws.default_region() == region
    assert aws.client("s3").meta.region_name == region
    assert aws.client("s3", "ca-central-1").meta.region_name == "ca-central-1"


@pytest.mark.usefixtures("config")
def test_a_profile_may_be_the_default_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with aws.default_profile("mine"):
        assert aws.default_region() == "us-west-2"
        with aws.default_profile(None):
            assert aws.client("s3").meta.region_name == "us-west-2"
        with pytest.raises(BotoCoreError, match="nobody"), aws.default_profile("nobody"):
            aws.default_region()
    assert aws.default_region() == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(BotoCoreError, match="nobody"):
        aws.client("s3")


@pytest.mark.usefixtures("config")
def test_a_session_of_ones_own_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    session = boto3.session.Session(profile_name="mine")
    assert aws.client("s3", session=session).meta.region_name == "us-west-2"
    nowhere = boto3.session.Session(profile_name="without-region")
    assert aws.client("s3", session=nowhere).meta.region_name == "sa-east-1"


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        ("eu-west1", "'eu-west1' is not the name of a region; did you mean 'eu-west-1'? correct --region"),
        ("eu west 1", "did you mean 'eu-west-1'?"),
        ("x", "'x' is not the name of a region; correct --region"),
        ("Frankfurt\n", "is not the name of a region"),
    ],
)
def test_a_wrong_region_is_a_sentence(region: str, sentence: str) -> None:
    with (
        pytest.raises(PackageError, match=sentence.replace("?", r"\?")) as raised,
        aws.translate_errors(PackageError, "reading the bucket"),
    ):
        aws.client("s3", region)
    assert "\n" not in str(raised.value)


def test_a_region_that_boto3_does_not_know_has_no_address() -> None:
    assert aws.client("s3", "eu-wset-1"), "a new region is not in boto3's list"
    error = EndpointConnectionError(endpoint_url="https://models.s3.eu-wset-1.amazonaws.com/")
    with (
        pytest.raises(PackageError, match="no region 'eu-wset-1'; did you mean 'eu-west-1'"),
        aws.translate_errors(PackageError, "reading the bucket"),
    ):
        raise error


def test_a_client_of_this_machine_has_its_address_and_access_key() -> None:
    client = aws.client(
        "s3", session=aws.local_session("KEY", "eu-west-1"), endpoint_url="http://127.0.0.1:9", read_timeout=5
    )
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert client.meta.config.read_timeout == 5
    presigned = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
    assert "KEY" in presigned


@pytest.mark.parametrize(
    ("region", "partition", "domain"),
    [
        ("eu-west-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
        ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov"),
        ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        # Regions that there are not yet.
        ("eu-west-99", "aws", "amazonaws.com"),
        ("cn-south-99", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-north-99", "aws-us-gov", "amazonaws.com"),
        ("us-isof-west-99", "aws-iso-f", "csp.hci.ic.gov"),
        ("eusc-de-west-99", "aws-eusc", "amazonaws.eu"),
    ],
)
def test_domain_and_arns_are_those_of_the_regions_partition(region: str, partition: str, domain: str) -> None:
    assert aws.dns_suffix(region) == domain
    assert aws.partition(region) == partition


def test_an_unknown_region_has_no_domain() -> None:
    with pytest.raises(UnknownRegionError):
        aws.dns_suffix("moon-base-1")
