"""Policy statements and their parts, for the execution role, the compilation role and callers.

Every statement on S3 objects is bound to the account that owns the bucket: a bucket's name can be taken by
another account after the bucket is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Stack, region_info
from aws_cdk import aws_iam as iam

from inf2kit import catalog


def allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], conditions: dict[str, Any] | None = None
) -> iam.PolicyStatement:
    """A statement that allows actions on resources."""
    return iam.PolicyStatement(
        sid=sid, actions=list(actions), resources=list(resources), conditions=conditions
    )


def arn(stack: Stack, service: str, resource: str) -> str:
    """The ARN of a resource in the stack's account and region."""
    return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{resource}"


def bucket_arn(stack: Stack, bucket: str) -> str:
    """The ARN of a bucket."""
    return f"arn:{stack.partition}:s3:::{bucket}"


def objects_arn(stack: Stack, uri: str) -> str:
    """The ARN of every object under an ``s3://BUCKET/PREFIX`` URI."""
    return bucket_arn(stack, f"{uri.removeprefix('s3://')}*")


def sagemaker_principal(stack: Stack) -> iam.IPrincipal:
    """SageMaker, on behalf of endpoints and jobs of the stack's account and region."""
    return iam.ServicePrincipal(
        "sagemaker.amazonaws.com",
        conditions={
            "StringEquals": {"aws:SourceAccount": stack.account},
            "ArnLike": {"aws:SourceArn": arn(stack, "sagemaker", "*")},
        },
    )


def owned_by(account: str) -> dict[str, Any]:
    """The condition that the bucket belongs to an account."""
    return {"StringEquals": {"aws:ResourceAccount": account}}


def list_objects(stack: Stack, sid: str, bucket: str, prefix: str, account: str) -> iam.PolicyStatement:
    """List the keys under a prefix such as ``models/``; an empty prefix is the whole bucket."""
    return allow(
        sid,
        ["s3:ListBucket"],
        [bucket_arn(stack, bucket)],
        {**owned_by(account), "StringLike": {"s3:prefix": [f"{prefix}*"]}},
    )


def decrypt_objects(stack: Stack, sid: str, keys: Sequence[str]) -> iam.PolicyStatement:
    """Read S3 objects that are encrypted with these keys."""
    return allow(sid, ["kms:Decrypt"], keys, _via_s3(stack))


def encrypt_objects(stack: Stack, sid: str, keys: Sequence[str]) -> iam.PolicyStatement:
    """Read and write S3 objects that are encrypted with these keys."""
    return allow(sid, ["kms:Decrypt", "kms:GenerateDataKey"], keys, _via_s3(stack))


def pull_image(stack: Stack) -> list[iam.PolicyStatement]:
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


def put_metrics() -> iam.PolicyStatement:
    """Publish the instances' metrics, which SageMaker does with the role. The action has no resources."""
    namespaces = {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}
    return allow("Metrics", ["cloudwatch:PutMetricData"], ["*"], {"StringLike": namespaces})


def encrypt_volume(key_arn: str) -> list[iam.PolicyStatement]:
    """Let AWS encrypt the volume of an instance; no statement without a key."""
    if not key_arn:
        return []
    for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        allow("VolumeKey", ["kms:DescribeKey"], [key_arn]),
        allow("VolumeGrant", ["kms:CreateGrant"], [key_arn], for_aws),
    ]


def join_vpc(stack: Stack, subnet_ids: Sequence[str], group_ids: Sequence[str]) -> list[iam.PolicyStatement]:
    """Create network interfaces in a VPC; no statement without subnets."""
    if not subnet_ids:
        return []
    describe = ["DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs"]
    change = [f"{verb}NetworkInterface{noun}" for verb in ("Create", "Delete") for noun in ("", "Permission")]
    resources = [
        arn(stack, "ec2", "network-interface/*"),
        *(arn(stack, "ec2", f"subnet/{subnet}") for subnet in subnet_ids),
        *(arn(stack, "ec2", f"security-group/{group}") for group in group_ids),
    ]
    return [
        allow("Networks", [f"ec2:Describe{noun}" for noun in describe], ["*"]),
        allow("Interfaces", [f"ec2:{action}" for action in change], resources),
    ]


def _via_s3(stack: Stack) -> dict[str, Any]:
    """The condition that S3 uses the key."""
    return {"StringEquals": {"kms:ViaService": f"s3.{stack.region}.{stack.url_suffix}"}}
