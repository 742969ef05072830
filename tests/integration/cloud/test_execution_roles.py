"""Permissions of execution roles: loading a model, and writing an asynchronous response."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloudformation import Resources, StackMaker
from tests.helpers.sagemaker import TRUST, ResourceMaker, allow_policy, create_role
from tests.helpers.servers import wait_until

FOREIGN_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": "210987654321"}},
            }
        ],
    }
)


def test_a_model_is_loaded_with_its_role(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    iam = aws("iam")
    with pytest.raises(ClientError, match=r"Could not assume role .*role/nobody"):
        maker.create_model("m", role="arn:aws:iam::123456789012:role/nobody")
    iam.create_role(RoleName="foreign", AssumeRolePolicyDocument=FOREIGN_TRUST)
    with pytest.raises(ClientError, match=r"allows principal 'sagemaker\.amazonaws\.com'"):
        maker.create_model("m", role="arn:aws:iam::123456789012:role/foreign")
    iam.delete_role(RoleName="foreign")
    elsewhere = {"Condition": {"StringEquals": {"aws:ResourceAccount": "210987654321"}}}
    listing = (["s3:ListBucket"], "arn:aws:s3:::models")
    for policy in (
        allow_policy((["s3:GetObject"], "*")),
        allow_policy(listing, (["s3:GetObject"], "arn:aws:s3:::models/another/*")),
        allow_policy(listing, (["s3:GetObject"], "*"), **elsewhere),
    ):
        role = create_role(iam, "narrow", policy)
        with pytest.raises(ClientError, match="Could not access model data"):
            maker.create_model("m", role=role)
    prefix = maker.uri.removeprefix("s3://models/")
    role = create_role(iam, "narrow", allow_policy(listing, (["s3:Get*"], f"arn:aws:s3:::models/{prefix}*")))
    maker.create_model("m", role=role)
    maker.create_config("c", "m")
    # A permission that is removed after CreateModel fails the start of an instance.
    create_role(iam, "narrow", allow_policy(listing))
    maker.create_endpoint("narrow", "c")
    failed = maker.wait_until_settled("narrow")
    assert failed["EndpointStatus"] == "Failed"
    assert "Could not access model data" in failed["FailureReason"]
    iam.delete_role_policy(RoleName="narrow", PolicyName="own")
    iam.delete_role(RoleName="narrow")


def test_a_boundary_comes_and_goes_with_the_stack(
    stacks: StackMaker, maker: ResourceMaker, aws: Callable[..., Any]
) -> None:
    iam = aws("iam")
    name = "bounded"
    own = {"PolicyName": "own", "PolicyDocument": json.loads(allow_policy((["s3:*"], "*")))}
    properties = {"RoleName": name, "AssumeRolePolicyDocument": TRUST, "Policies": [own]}

    def role(**more: Any) -> Resources:
        return {"Role": {"Type": "AWS::IAM::Role", "Properties": {**properties, **more}}}

    role_arn = f"arn:aws:iam::123456789012:role/{name}"
    missing = {"PermissionsBoundary": "arn:aws:iam::123456789012:policy/missing"}
    assert stacks.create(name, role(**missing)) == "ROLLBACK_COMPLETE"
    assert any("does not exist or is not attachable" in reason for _, _, reason in stacks.events(name))
    assert stacks.delete(name) == "DELETE_COMPLETE"

    limits = allow_policy((["logs:*"], "*"))
    boundary = iam.create_policy(PolicyName="limit", PolicyDocument=limits)["Policy"]["Arn"]
    limited = role(PermissionsBoundary=boundary, Tags=[{"Key": "team", "Value": "a"}])
    assert stacks.create(name, limited) == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match="Could not access model data"):
        maker.create_model("m", role=role_arn)
    assert stacks.update(name, role(Description="free")) == "UPDATE_COMPLETE"
    described = iam.get_role(RoleName=name)["Role"]
    assert described["Description"] == "free"
    assert "PermissionsBoundary" not in described
    assert not described.get("Tags")
    maker.create_model("m", role=role_arn)
    assert stacks.update(name, limited) == "UPDATE_COMPLETE"
    with pytest.raises(ClientError, match="Could not access model data"):
        maker.create_model("other", role=role_arn)
    assert stacks.delete(name) == "DELETE_COMPLETE"
    iam.delete_policy(PolicyArn=boundary)


def test_a_response_is_written_with_the_role(
    cloud: CloudSettings, maker: ResourceMaker, aws: Callable[..., Any]
) -> None:
    """The bucket encrypts with a KMS key, so the role needs permissions for both."""
    iam, s3, runtime = aws("iam"), aws("s3"), aws("sagemaker-runtime")
    key = "arn:aws:kms:us-east-1:123456789012:key/of-the-bucket"
    s3.create_bucket(Bucket="encrypted")
    by_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket="encrypted",
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_key}]},
    )
    reading = (["s3:GetObject", "s3:ListBucket"], "*")
    writing = (["s3:PutObject"], "arn:aws:s3:::encrypted/answers/*")
    role = create_role(iam, "writer", allow_policy(reading, writing))
    maker.create_model("m", role=role)
    maker.create_config("c", "m", asynchronous={"OutputConfig": {"S3OutputPath": "s3://encrypted/answers"}})
    maker.create_endpoint("writer", "c")
    assert maker.wait_until_settled("writer")["EndpointStatus"] == "InService"
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 2}})

    def invoke() -> str:
        response = runtime.invoke_endpoint_async(
            EndpointName="writer", ContentType="application/json", Body=body
        )
        return str(response["OutputLocation"])

    lost = invoke()
    wait_until(lambda: f"may not write {lost}" in cloud.log.read_text(encoding="utf-8"), "a refusal")
    assert "Contents" not in s3.list_objects_v2(Bucket="encrypted")
    create_role(iam, "writer", allow_policy(reading, writing, (["kms:GenerateDataKey"], key)))
    written = invoke()
    wait_until(lambda: s3.list_objects_v2(Bucket="encrypted").get("Contents"), "a response")
    (item,) = s3.list_objects_v2(Bucket="encrypted")["Contents"]
    assert written.endswith(item["Key"])
    s3.delete_object(Bucket="encrypted", Key=item["Key"])
    s3.delete_bucket(Bucket="encrypted")
    iam.delete_role_policy(RoleName="writer", PolicyName="own")
    iam.delete_role(RoleName="writer")
