"""Every (action, resource) that a stack grants, listed: a new one fails here until it is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

import inf2kit
from inf2kit.cdk import EndpointStack
from infra.app import build_app
from infra.context import Context
from tests.helpers.cdk import find_only, register_package

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
OTHER_KEY = KEY.replace("-1234-", "-5678-")
NAME = "llama2-7b-throughput"
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "REGION",
    "AWS::AccountId": "ACCOUNT",
    "AWS::URLSuffix": "SUFFIX",
}
ENDPOINT = "arn:aws:sagemaker:REGION:ACCOUNT:endpoint"
PACKAGES = "arn:aws:s3:::models/llm/*"
GROUP = "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/sagemaker/Endpoints/llama2-7b-throughput"
ALARM = "arn:aws:cloudwatch:REGION:ACCOUNT:alarm:llama2-7b-throughput"
REPOSITORY = "arn:aws:ecr:REGION:DLC:repository/huggingface-pytorch-inference-neuronx"
DEFAULT = {
    ("ecr:GetAuthorizationToken", "*"),
    ("ecr:BatchCheckLayerAvailability", REPOSITORY),
    ("ecr:BatchGetImage", REPOSITORY),
    ("ecr:GetDownloadUrlForLayer", REPOSITORY),
    ("s3:GetObject", PACKAGES),
    ("s3:ListBucket", "arn:aws:s3:::models"),
    ("logs:CreateLogStream", GROUP),
    ("logs:CreateLogStream", f"{GROUP}:log-stream:*"),
    ("logs:DescribeLogStreams", GROUP),
    ("logs:DescribeLogStreams", f"{GROUP}:log-stream:*"),
    ("logs:PutLogEvents", GROUP),
    ("logs:PutLogEvents", f"{GROUP}:log-stream:*"),
    ("cloudwatch:PutMetricData", "*"),
    ("cloudwatch:DescribeAlarms", f"{ALARM}-Errors"),
    ("cloudwatch:DescribeAlarms", f"{ALARM}-ErrorRate"),
    ("cloudwatch:DescribeAlarms", f"{ALARM}-Latency"),
}
ASYNC = "arn:aws:s3:::models/inf2kit-async/llama2-7b-throughput-async/*"
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
        {("kms:DescribeKey", KEY), ("kms:CreateGrant", KEY)},
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
    rendered = template("llama2-7b-throughput", **context)
    default = DEFAULT
    if "asynchronous" in context:
        default = {(action, place.replace(NAME, f"{NAME}-async")) for action, place in DEFAULT} - {
            ("cloudwatch:DescribeAlarms", f"{ALARM}-async-Latency")
        }
    assert granted(rendered) == default | more
    role = find_only(rendered, "IAM::Role")
    assert "ManagedPolicyArns" not in role
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert flat(trust["Condition"]["ArnLike"]["aws:SourceArn"]) == "arn:aws:sagemaker:REGION:ACCOUNT:*"


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"asynchronous": "true", "data_capture_percent": "5"},
        {"compile_output": "s3://models/llm", "compile_token_secret": "hub"},
    ],
)
def test_no_bucket_of_another_account_is_read_or_written(context: dict[str, str], tmp_path: Path) -> None:
    """A bucket's name can be taken by anybody once it is given up."""
    app = build_app({"package": register_package(NAME), **context}, outdir=str(tmp_path))
    stacks = [f"inf2-{NAME}", *(["inf2-compile-role"] if "compile_output" in context else [])]
    for name in stacks:
        rendered = Template.from_stack(app.node.find_child(name))  # type: ignore[arg-type]
        statements = [statement for statement in policy(rendered) if "s3:" in json.dumps(statement["Action"])]
        assert statements
        for statement in statements:
            owner = statement["Condition"]["StringEquals"]["aws:ResourceAccount"]
            assert owner == {"Ref": "AWS::AccountId"}


def test_the_owner_of_the_packages_can_be_another_account(template: Callable[..., Template]) -> None:
    rendered = template(bucket_owner="999999999999", asynchronous="true", async_output="s3://mine/answers/")
    owners = {
        statement["Sid"]: statement["Condition"]["StringEquals"]["aws:ResourceAccount"]
        for statement in policy(rendered)
        if "s3:" in json.dumps(statement["Action"])
    }
    mine = {"Ref": "AWS::AccountId"}
    assert owners == {"Package": "999999999999", "PackageNames": "999999999999", "Async": mine}


def test_listing_is_bound_to_packages_with_and_without_a_last_slash(
    template: Callable[..., Template],
) -> None:
    statements = {statement["Sid"]: statement for statement in policy(template())}
    listed = texts(statements["PackageNames"]["Condition"]["StringLike"]["s3:prefix"])
    assert listed == ["llm/*"], "and so llm/DIGEST as well as llm/DIGEST/"


def test_packages_may_lie_in_the_bucket_itself(tmp_path: Path) -> None:
    uri = register_package(NAME).replace("/llm/", "/")
    rendered = Template.from_stack(
        build_app({"package": uri}, outdir=str(tmp_path)).node.find_child(f"inf2-{NAME}")  # type: ignore[arg-type]
    )
    assert ("s3:GetObject", "arn:aws:s3:::models/*") in granted(rendered)


@pytest.mark.parametrize("options", [{"asynchronous": "true"}, {"data_capture_percent": "5"}])
@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"package_kms_key_arn": KEY}, KEY),
        ({"package_kms_key_arn": KEY, "kms_key_arn": OTHER_KEY}, OTHER_KEY),
        ({"kms_key_arn": OTHER_KEY}, OTHER_KEY),
    ],
)
def test_what_the_endpoint_writes_can_be_encrypted(
    template: Callable[..., Template], options: dict[str, str], keys: dict[str, str], key: str
) -> None:
    """Without a key of its own an object gets the bucket's, and its writer must be allowed to use that."""
    may = {
        action
        for statement in policy(template(**options, **keys))
        if statement["Resource"] == key and "ViaService" in json.dumps(statement)
        for action in texts(statement["Action"])
    }
    assert {"kms:Decrypt", "kms:GenerateDataKey"} <= may


def test_the_key_of_a_bucket_elsewhere_is_not_that_of_the_packages(
    template: Callable[..., Template],
) -> None:
    rendered = template(asynchronous="true", async_output="s3://elsewhere/answers/", package_kms_key_arn=KEY)
    assert ("kms:GenerateDataKey", KEY) not in granted(rendered)


def test_keys_are_used_through_the_services_that_need_them(template: Callable[..., Template]) -> None:
    rendered = template(kms_key_arn=KEY, package_kms_key_arn=OTHER_KEY, asynchronous="true")
    statements = {statement["Sid"]: statement.get("Condition") for statement in policy(rendered)}
    for sid in ("PackageKey", "AsyncKey"):
        via = statements[sid]["StringEquals"]["kms:ViaService"]
        assert flat(via) == "s3.REGION.SUFFIX"
    assert statements["VolumeGrant"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    namespaces = statements["Metrics"]["StringLike"]["cloudwatch:namespace"]
    assert "/aws/sagemaker/*" in namespaces


INVOKE = {"sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"}
OF_ASYNC = "arn:aws:s3:::models/inf2kit-async/llama2-7b-throughput-async"


@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        (
            {},
            {
                *((action, f"{ENDPOINT}/llama2-7b-throughput") for action in INVOKE),
                ("sagemaker:CallWithBearerToken", "*"),
            },
        ),
        (
            {"asynchronous": "true", "kms_key_arn": KEY},
            {
                ("sagemaker:InvokeEndpointAsync", f"{ENDPOINT}/llama2-7b-throughput-async"),
                ("s3:PutObject", f"{OF_ASYNC}/requests/*"),
                ("s3:AbortMultipartUpload", f"{OF_ASYNC}/requests/*"),
                ("s3:GetObject", f"{OF_ASYNC}/answers/*"),
                ("s3:GetObject", f"{OF_ASYNC}/failures/*"),
                # An answer that is not there yet is a 403 without it, and a 404 with it.
                ("s3:ListBucket", "arn:aws:s3:::models"),
                ("kms:Decrypt", KEY),
                ("kms:GenerateDataKey", KEY),
            },
        ),
    ],
    ids=["real-time", "async"],
)
def test_a_caller_is_granted_what_a_call_needs(
    context: dict[str, str], allowed: set[tuple[str, str]]
) -> None:
    preset = inf2kit.load_preset(NAME)
    app = cdk.App()
    stack = EndpointStack(
        app,
        "stack",
        props=Context.parse({"package": register_package(preset), **context}).endpoint_props(preset),
    )
    stack.grant_invoke(iam.User(stack, "Caller"))
    policies = Template.from_stack(stack).find_resources("AWS::IAM::Policy").values()
    statements = [
        statement
        for policy in policies
        if "Users" in policy["Properties"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]
    assert pairs(statements) == allowed
    for statement in statements:
        if "s3:" in json.dumps(statement["Action"]):
            assert "aws:ResourceAccount" in statement["Condition"]["StringEquals"]


def compile_role(tmp_path: Path, **context: str) -> Template:
    """The stack of the role of compilation jobs."""
    app = build_app({"compile_output": "s3://models/llm/", **context}, outdir=str(tmp_path / "role"))
    return Template.from_stack(app.node.find_child("inf2-compile-role"))  # type: ignore[arg-type]


JOBS = "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/sagemaker/ProcessingJobs"
SECRET = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:hub-??????"  # noqa: S105 - a name


def test_a_compilation_job_may_do_this_and_nothing_else(tmp_path: Path) -> None:
    rendered = compile_role(tmp_path, compile_token_secret="hub")  # noqa: S106 - a name
    assert granted(rendered) == {
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", REPOSITORY),
        ("ecr:BatchGetImage", REPOSITORY),
        ("ecr:GetDownloadUrlForLayer", REPOSITORY),
        ("cloudwatch:PutMetricData", "*"),
        ("logs:CreateLogGroup", JOBS),
        ("logs:DescribeLogStreams", JOBS),
        ("logs:CreateLogStream", f"{JOBS}:log-stream:*"),
        ("logs:PutLogEvents", f"{JOBS}:log-stream:*"),
        ("s3:GetObject", PACKAGES),
        ("s3:PutObject", PACKAGES),
        ("s3:AbortMultipartUpload", PACKAGES),
        ("s3:ListMultipartUploadParts", PACKAGES),
        ("s3:ListBucket", "arn:aws:s3:::models"),
        ("s3:ListBucketMultipartUploads", "arn:aws:s3:::models"),
        ("secretsmanager:GetSecretValue", SECRET),
    }
    assert "ManagedPolicyArns" not in find_only(rendered, "IAM::Role")
    assert rendered.find_outputs("RoleArn")


def test_a_compilation_job_reads_one_secret_and_uses_one_key(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf"
    secrets = [
        place
        for context in ({}, {"compile_token_secret": arn})
        for action, place in granted(compile_role(tmp_path, **context))
        if action == "secretsmanager:GetSecretValue"
    ]
    assert secrets == [arn]
    rendered = compile_role(tmp_path, package_kms_key_arn=KEY, bucket_owner="999999999999")
    assert {("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY)} <= granted(rendered)
    owners = {
        statement["Condition"]["StringEquals"]["aws:ResourceAccount"]
        for statement in policy(rendered)
        if "s3:" in json.dumps(statement["Action"])
    }
    assert owners == {"999999999999"}


def test_a_compilation_job_may_be_in_a_vpc_with_a_key_for_its_volume(tmp_path: Path) -> None:
    network = {"subnet_ids": "subnet-0123456789abcdef0", "security_group_ids": "sg-0123456789abcdef0"}
    rights = granted(compile_role(tmp_path, kms_key_arn=KEY, **network))
    assert {("kms:CreateGrant", KEY), ("kms:DescribeKey", KEY)} <= rights
    assert {("ec2:CreateNetworkInterface", place) for place in PLACES} <= rights
    assert ("kms:GenerateDataKey", KEY) not in rights, "the bucket has another key, or none"


def test_a_permissions_boundary_is_on_every_role(tmp_path: Path) -> None:
    context = {
        "@aws-cdk/core:permissionsBoundary": {"name": "boundary"},
        "package": register_package(NAME),
        "compile_output": "s3://models/llm",
    }
    app = build_app(context, outdir=str(tmp_path))
    for stack in (f"inf2-{NAME}", "inf2-compile-role"):
        rendered = Template.from_stack(app.node.find_child(stack))  # type: ignore[arg-type]
        roles = rendered.find_resources("AWS::IAM::Role").values()
        assert roles
        for role in roles:
            boundary = flat(role["Properties"]["PermissionsBoundary"])
            assert boundary == "arn:aws:iam::ACCOUNT:policy/boundary"


def policy(rendered: Template) -> list[dict[str, Any]]:
    policies = rendered.find_resources("AWS::IAM::Policy").values()
    return [
        statement for policy in policies for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def granted(rendered: Template) -> set[tuple[str, str]]:
    return pairs(policy(rendered))


def pairs(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (action, flat(resource))
        for statement in statements
        for action in texts(statement["Action"])
        for resource in (
            statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        )
    }


def texts(value: str | list[str]) -> list[str]:
    """A text or several, as policies have them."""
    return [value] if isinstance(value, str) else value


def flat(value: Any) -> str:
    """An ARN with its pseudo parameters as words."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return PSEUDO[value["Ref"]]
    if "Fn::FindInMap" in value:
        return "DLC"
    return "".join(flat(part) for part in value["Fn::Join"][1])
