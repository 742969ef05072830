"""The execution role of compilation jobs: one S3 prefix, one secret, one image and the jobs' log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from inf2kit.cdk import acknowledgements, statements
from inf2kit.cdk.statements import allow
from inf2kit.compile.job_progress import LOG_GROUP
from inf2kit.errors import DeploymentError, PackageError
from inf2kit.package.stores.places import parse_bucket_place

_OBJECT_ACTIONS = (
    *("s3:GetObject", "s3:PutObject"),
    *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
)


@dataclass(frozen=True, kw_only=True)
class CompileRoleProps:
    """The props of the role of compilation jobs.

    Attributes:
        output: The ``s3://BUCKET/PREFIX`` of packages, as in ``inf2kit compile --job --output``.
        token_secret: The name or ARN of the secret with the hub's token; empty if no model is gated.
        bucket_owner: The account that owns the bucket. Default: the deploying account.
        bucket_kms_key_arn: The key that the bucket is encrypted with.
        volume_kms_key_arn: The key of ``--volume-kms-key``.
        subnet_ids: The subnets of ``--subnet``.
        security_group_ids: The groups of ``--security-group``.

    Raises:
        DeploymentError: the output is not in S3, or the secret is neither a name nor an ARN.
    """

    output: str
    token_secret: str = ""
    bucket_owner: str = ""
    bucket_kms_key_arn: str = ""
    volume_kms_key_arn: str = ""
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^*?]*)?", self.output):
            raise DeploymentError(f"compile_output is {self.output!r}; it must be s3://BUCKET/PREFIX")
        try:
            parse_bucket_place(self.output)
        except PackageError as error:
            raise DeploymentError(f"compile_output: {error}") from None
        if not re.fullmatch(r"(arn:[\w-]+:secretsmanager:[\w:-]+:)?[\w/+=.@-]*", self.token_secret):
            raise DeploymentError(
                f"compile_token_secret is {self.token_secret!r}; it must be a secret's name or ARN"
            )

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.output.removeprefix("s3://").partition("/")[0]

    @property
    def folder(self) -> str:
        """The packages' key prefix, such as ``models/``; empty if they are at the top of the bucket."""
        prefix = self.output.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{prefix}/" if prefix else ""


class CompileRole(Construct):
    """An execution role for ``inf2kit compile --job``.

    Attributes:
        role: The role for the option ``--role``.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: CompileRoleProps) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=statements.sagemaker_principal(stack),
            description=f"Compilation jobs that write to {props.output}",
        )
        policy_statements = [
            *statements.pull_image(stack),
            *_write_log(stack),
            *_write_packages(stack, props),
            *_read_token(stack, props.token_secret),
            *statements.encrypt_volume(props.volume_kms_key_arn),
            *statements.join_vpc(stack, props.subnet_ids, props.security_group_ids),
        ]
        iam.Policy(self, "Policy", roles=[self.role], statements=policy_statements)


class CompileRoleStack(Stack):
    """A stack of the role alone. It costs nothing."""

    def __init__(
        self, scope: Construct, construct_id: str, *, props: CompileRoleProps, **kwargs: Any
    ) -> None:
        super().__init__(scope, construct_id, description="inf2kit: role of compilation jobs", **kwargs)
        compile_role = CompileRole(self, "Compile", props=props)
        CfnOutput(self, "RoleArn", value=compile_role.role.role_arn)
        acknowledgements.acknowledge_compile_role(self, props)


def _write_log(stack: Stack) -> list[iam.PolicyStatement]:
    group = statements.arn(stack, "logs", f"log-group:{LOG_GROUP}")
    return [
        allow("LogGroup", ["logs:CreateLogGroup", "logs:DescribeLogStreams"], [group]),
        allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:log-stream:*"]),
        statements.put_metrics(),
    ]


def _write_packages(stack: Stack, props: CompileRoleProps) -> list[iam.PolicyStatement]:
    owned = statements.owned_by(props.bucket_owner or stack.account)
    bucket = statements.bucket_arn(stack, props.bucket)
    policy_statements = [
        allow("Packages", _OBJECT_ACTIONS, [f"{bucket}/{props.folder}*"], owned),
        # HeadBucket needs this action and has no prefix; listings have one.
        allow(
            "PackageNames",
            ["s3:ListBucket"],
            [bucket],
            {**owned, "StringLikeIfExists": {"s3:prefix": [f"{props.folder}*"]}},
        ),
        # An interrupted upload is resumed. This action cannot be limited to a prefix.
        allow("Uploads", ["s3:ListBucketMultipartUploads"], [bucket], owned),
    ]
    if props.bucket_kms_key_arn:
        policy_statements.append(statements.encrypt_objects(stack, "PackageKey", [props.bucket_kms_key_arn]))
    return policy_statements


def _read_token(stack: Stack, secret: str) -> list[iam.PolicyStatement]:
    if not secret:
        return []
    if not secret.startswith("arn:"):
        # Secrets Manager appends a dash and six characters to the name in the ARN.
        secret = statements.arn(stack, "secretsmanager", f"secret:{secret}-??????")
    return [allow("Token", ["secretsmanager:GetSecretValue"], [secret])]
