"""Every (action, resource) that a stack grants, listed: a new one fails here until it is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template
from stacks import deployable, only

import inf2kit
from infra.context import Context
from infra.stack import EndpointStack

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
PACKAGE = "arn:aws:s3:::models/llm/DIGEST/*"
GROUP = "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/sagemaker/Endpoints/llama2-7b-throughput"
ALARM = "arn:aws:cloudwatch:REGION:ACCOUNT:alarm:llama2-7b-throughput"
REPOSITORY = "arn:aws:ecr:REGION:DLC:repository/huggingface-pytorch-inference-neuronx"
DEFAULT = {
    ("ecr:GetAuthorizationToken", "*"),
    ("ecr:BatchCheckLayerAvailability", REPOSITORY),
    ("ecr:BatchGetImage", REPOSITORY),
    ("ecr:GetDownloadUrlForLayer", REPOSITORY),
    ("s3:GetObject", PACKAGE),
    ("s3:ListBucket", "arn:aws:s3:::models"),
    ("logs:CreateLogStream", GROUP),
    ("logs:CreateLogStream", f"{GROUP}:log-stream:*"),
    ("logs:DescribeLogStreams", GROUP),
    ("logs:DescribeLogStreams", f"{GROUP}:log-stream:*"),
    ("logs:PutLogEvents", GROUP),
    ("logs:PutLogEvents", f"{GROUP}:log-stream:*"),
    ("cloudwatch:PutMetricData", "*"),
    ("cloudwatch:DescribeAlarms", f"{ALARM}-Errors"),
    ("cloudwatch:DescribeAlarms", f"{ALARM}-Latency"),
}
ASYNC = "arn:aws:s3:::models/inf2kit-async/llama2-7b-throughput/*"
CAPTURE = "arn:aws:s3:::models/inf2kit-data-capture/llama2-7b-throughput/*"
PLACES = (
    "arn:aws:ec2:REGION:ACCOUNT:network-interface/*",
    "arn:aws:ec2:REGION:ACCOUNT:subnet/subnet-0123456789abcdef0",
    "arn:aws:ec2:REGION:ACCOUNT:security-group/sg-0123456789abcdef0",
)
OPTIONS: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
    ({}, set()),
    ({"max_instances": "4", "alarm_email": "ops@example.com"}, set()),
    (
        {"asynchronous": "true", "min_instances": "0", "max_instances": "2"},
        {("s3:PutObject", ASYNC), ("s3:AbortMultipartUpload", ASYNC), ("s3:GetObject", ASYNC)},
    ),
    ({"data_capture_percent": "5"}, {("s3:PutObject", CAPTURE), ("s3:AbortMultipartUpload", CAPTURE)}),
    (
        {"kms_key_arn": KEY},
        {(f"kms:{action}", KEY) for action in ("Decrypt", "DescribeKey", "GenerateDataKey", "CreateGrant")},
    ),
    ({"package_kms_key_arn": KEY}, {("kms:Decrypt", KEY)}),
    (
        {"subnet_ids": "subnet-0123456789abcdef0", "security_group_ids": "sg-0123456789abcdef0"},
        {
            (f"ec2:{verb}NetworkInterface{what}", place)
            for verb in ("Create", "Delete")
            for what in ("", "Permission")
            for place in PLACES
        }
        | {
            (f"ec2:Describe{what}", "*")
            for what in ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
        },
    ),
]


@pytest.mark.parametrize(
    ("context", "more"), OPTIONS, ids=["default", "scaling", "async", "capture", "key", "package key", "vpc"]
)
def test_the_execution_role_may_do_this_and_nothing_else(
    template: Callable[..., Template], context: dict[str, Any], more: set[tuple[str, str]]
) -> None:
    made = template("llama2-7b-throughput", **context)
    assert granted(made) == DEFAULT | more
    role = only(made, "IAM::Role")
    assert "ManagedPolicyArns" not in role
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    ]


def test_listing_is_bound_to_the_package_and_a_grant_to_aws_itself(template: Callable[..., Template]) -> None:
    statements = {each["Sid"]: each for each in policy(template(kms_key_arn=KEY))}
    listed = statements["PackageNames"]["Condition"]["StringLike"]["s3:prefix"]
    listed = listed if isinstance(listed, str) else listed[0]
    assert listed.startswith("llm/")
    assert listed.endswith("/*")
    assert statements["VolumeKey"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}


@pytest.mark.parametrize(
    ("context", "actions"),
    [
        ({}, {"sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"}),
        ({"asynchronous": "true"}, {"sagemaker:InvokeEndpointAsync"}),
    ],
)
def test_a_caller_is_granted_the_calls_that_the_endpoint_answers(
    context: dict[str, str], actions: set[str]
) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    app = cdk.App()
    stack = EndpointStack(
        app, "stack", props=Context.read({"package": deployable(preset), **context}).props(preset)
    )
    caller = iam.User(stack, "Caller")
    stack.grant_invoke(caller)
    made = Template.from_stack(stack)
    statement = next(
        each["Properties"]["PolicyDocument"]["Statement"][0]
        for each in made.find_resources("AWS::IAM::Policy").values()
        if "Users" in each["Properties"]
    )
    found = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    assert set(found) == actions
    assert flat(statement["Resource"]) == "arn:aws:sagemaker:REGION:ACCOUNT:endpoint/llama2-7b-throughput"


def policy(made: Template) -> list[dict[str, Any]]:
    policies = made.find_resources("AWS::IAM::Policy").values()
    return [each for policy in policies for each in policy["Properties"]["PolicyDocument"]["Statement"]]


def granted(made: Template) -> set[tuple[str, str]]:
    found = set()
    for statement in policy(made):
        actions, resources = statement["Action"], statement["Resource"]
        for action in actions if isinstance(actions, list) else [actions]:
            for resource in resources if isinstance(resources, list) else [resources]:
                found.add((action, flat(resource)))
    return found


def flat(value: Any) -> str:
    """An ARN with its pseudo parameters as words."""
    if isinstance(value, str):
        return "/".join("DIGEST" if len(part) == 32 and part.isalnum() else part for part in value.split("/"))
    if "Ref" in value:
        return {"AWS::Partition": "aws", "AWS::Region": "REGION", "AWS::AccountId": "ACCOUNT"}[value["Ref"]]
    if "Fn::FindInMap" in value:
        return "DLC"
    joined = "".join(flat(part) for part in value["Fn::Join"][1])
    return flat(joined)
