"""The permissions of an execution role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from inf2kit.rehearsal.cloud.iam import ExecutionRole
from tests.helpers.sagemaker import TRUST, create_role

SOURCE = "arn:aws:sagemaker:us-east-1:123456789012:model/m"
OBJECT = "arn:aws:s3:::models/llm/DIGEST/config.json"


def statement(effect: str = "Allow", **changed: Any) -> dict[str, Any]:
    base = {"Effect": effect, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/llm/*"}
    return {key: value for key, value in {**base, **changed}.items() if value is not None}


def condition(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {kind: {key: value}}}


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("iam", region_name="us-east-1")


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([statement(Action="s3:PutObject")], False),
        ([statement()], True),
        ([statement(Action="s3:getobject")], True),
        ([statement(Action=["s3:Put*", "s3:Get?bject"])], True),
        ([statement(Action=None, NotAction="s3:PutObject")], True),
        ([statement(Resource="arn:aws:s3:::models")], False),
        ([statement(Resource=None, NotResource="arn:aws:s3:::models/llm/*")], False),
        ([statement(), statement("Deny")], False),
        ([statement(), statement("Deny", Resource="arn:aws:s3:::models/llm/OTHER/*")], True),
        ([statement(**condition("StringEquals", "aws:ResourceAccount", "123456789012"))], True),
        ([statement(**condition("StringEquals", "s3:ResourceAccount", ["1", "2"]))], False),
        ([statement(**condition("StringNotEquals", "aws:ResourceAccount", "1"))], True),
        ([statement(**condition("Bool", "aws:SecureTransport", "true"))], True),
        ([statement(), statement("Deny", **condition("Bool", "aws:SecureTransport", "false"))], True),
        ([statement(**condition("ArnLike", "aws:SourceArn", "arn:aws:sagemaker:*"))], True),
        ([statement(**condition("StringEquals", "aws:nobody-knows", "x"))], False),
        ([statement(**condition("StringEqualsIfExists", "aws:nobody-knows", "x"))], True),
    ],
)
def test_statements(iam: Any, statements: list[dict[str, Any]], allowed: bool) -> None:
    role = create_role(iam, policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    assert ExecutionRole(role, SOURCE).allows("s3:GetObject", OBJECT) is allowed


def test_a_boundary_limits_what_policies_allow(iam: Any) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement(Action="s3:PutObject")]})
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document)["Policy"]["Arn"]
    iam.create_role(
        RoleName="execution", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=boundary
    )
    execution = ExecutionRole(create_role(iam), SOURCE)
    assert execution.allows("s3:PutObject", OBJECT)
    assert not execution.allows("s3:GetObject", OBJECT)


def test_a_boundary_that_was_deleted_allows_nothing(iam: Any) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement()]})
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document)["Policy"]["Arn"]
    iam.create_role(
        RoleName="execution", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=boundary
    )
    role = ExecutionRole(
        create_role(iam, policy=json.dumps({"Version": "2012-10-17", "Statement": [statement()]})), SOURCE
    )
    assert role.allows("s3:GetObject", OBJECT)
    iam.delete_policy(PolicyArn=boundary)
    assert not role.allows("s3:GetObject", OBJECT)


def test_a_managed_policy_counts(iam: Any) -> None:
    other = {"Version": "2012-10-17", "Statement": statement(Action="s3:PutObject")}
    role = create_role(iam, policy=json.dumps(other))
    document = json.dumps({"Version": "2012-10-17", "Statement": statement()})
    policy = iam.create_policy(PolicyName="mine", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="execution", PolicyArn=policy)
    assert ExecutionRole(role, SOURCE).allows("s3:GetObject", OBJECT)


def test_a_role_that_is_not_there_allows_nothing(iam: Any) -> None:
    assert not ExecutionRole("arn:aws:iam::123456789012:role/nobody", SOURCE).allows("s3:GetObject", OBJECT)
