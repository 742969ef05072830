"""Parts of policies that several roles have: where an S3 object may lie, who may assume a role, an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Stack, region_info
from aws_cdk import aws_iam as iam

from inf2kit import catalog


def allow(
    sid: str, actions: list[str], resources: list[str], conditions: dict[str, Any] | None = None
) -> iam.PolicyStatement:
    """A statement that allows."""
    return iam.PolicyStatement(sid=sid, actions=actions, resources=resources, conditions=conditions)


def arn(stack: Stack, service: str, resource: str) -> str:
    """A resource of this account in this region."""
    return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{resource}"


def sagemaker_principal(stack: Stack) -> iam.IPrincipal:
    """SageMaker, acting for this account's own endpoints and jobs in this region."""
    return iam.ServicePrincipal(
        "sagemaker.amazonaws.com",
        conditions={
            "StringEquals": {"aws:SourceAccount": stack.account},
            "ArnLike": {"aws:SourceArn": arn(stack, "sagemaker", "*")},
        },
    )


def bucket_arn(stack: Stack, bucket: str) -> str:
    """The ARN of a bucket."""
    return f"arn:{stack.partition}:s3:::{bucket}"


def below(stack: Stack, uri: str) -> str:
    """The objects under an ``s3://`` prefix."""
    return bucket_arn(stack, f"{uri.removeprefix('s3://')}*")


def owned_by(account: str) -> dict[str, Any]:
    """Only in a bucket of this account: a name that was given up can be taken by anybody."""
    return {"StringEquals": {"aws:ResourceAccount": account}}


def listing(stack: Stack, sid: str, bucket: str, prefix: str, account: str) -> iam.PolicyStatement:
    """Names under a prefix, such as ``models/``; an empty one is the whole bucket."""
    return allow(
        sid,
        ["s3:ListBucket"],
        [bucket_arn(stack, bucket)],
        {**owned_by(account), "StringLike": {"s3:prefix": [f"{prefix}*"]}},
    )


def through_s3(stack: Stack) -> dict[str, Any]:
    """Only for objects that S3 keeps."""
    return {"StringEquals": {"kms:ViaService": f"s3.{stack.region}.{stack.url_suffix}"}}


def image(stack: Stack) -> list[iam.PolicyStatement]:
    """Pull the container's image."""
    account = stack.regional_fact(region_info.FactName.DLC_REPOSITORY_ACCOUNT)
    repository = catalog.image().repository
    return [
        allow("Login", ["ecr:GetAuthorizationToken"], ["*"]),
        allow(
            "Image",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [f"arn:{stack.partition}:ecr:{stack.region}:{account}:repository/{repository}"],
        ),
    ]


def metrics() -> iam.PolicyStatement:
    """The instances' own metrics, which go through the role. The action has no resources to name."""
    namespaces = {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}
    return allow("Metrics", ["cloudwatch:PutMetricData"], ["*"], {"StringLike": namespaces})


def volume_key(key_arn: str) -> list[iam.PolicyStatement]:
    """Let AWS encrypt the volume of an instance; nothing without a key."""
    if not key_arn:
        return []
    for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        allow("VolumeKey", ["kms:DescribeKey"], [key_arn]),
        allow("VolumeGrant", ["kms:CreateGrant"], [key_arn], for_aws),
    ]


def network(stack: Stack, subnet_ids: Sequence[str], group_ids: Sequence[str]) -> list[iam.PolicyStatement]:
    """Join a VPC; nothing without subnets."""
    if not subnet_ids:
        return []
    describe = ["DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs"]
    change = [f"{verb}NetworkInterface{what}" for verb in ("Create", "Delete") for what in ("", "Permission")]
    places = [
        arn(stack, "ec2", "network-interface/*"),
        *(arn(stack, "ec2", f"subnet/{subnet}") for subnet in subnet_ids),
        *(arn(stack, "ec2", f"security-group/{group}") for group in group_ids),
    ]
    return [
        allow("Networks", [f"ec2:Describe{what}" for what in describe], ["*"]),
        allow("Interfaces", [f"ec2:{what}" for what in change], places),
    ]
