"""The role of compilation jobs: one prefix of one bucket, one secret, one image, and the job's own log."""

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
from inf2kit.errors import DeploymentError

NAME = "inf2-compile-role"


@dataclass(frozen=True, kw_only=True)
class CompileProps:
    """Where jobs write, and what they read.

    Attributes:
        output: ``s3://BUCKET/PREFIX`` of the packages, as ``inf2kit compile --job --output`` has it.
        token_secret: The name or ARN of the secret with the hub's token; empty if no model is gated.
        bucket_owner: The account that owns the bucket; the deploying one by default.
        bucket_kms_key_arn: The key that the bucket is encrypted with.
        volume_kms_key_arn: The key of ``--volume-kms-key``.
        subnet_ids: The subnets of ``--subnet``.
        security_group_ids: The groups of ``--security-group``.
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
        """The packages' key prefix, such as ``models/``; empty if they lie in the bucket itself."""
        prefix = self.output.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{prefix}/" if prefix else ""


class CompileRole(Construct):
    """An execution role for ``inf2kit compile --job``.

    Attributes:
        role: For ``--role``.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: CompileProps) -> None:
        super().__init__(scope, construct_id)
        self._stack, self._props = Stack.of(self), props
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=statements.sagemaker_principal(self._stack),
            description=f"Compilation jobs that write to {props.output}",
        )
        group = [
            *statements.image(self._stack),
            *self._logs(),
            *self._packages(),
            *self._secret(),
            *statements.volume_key(props.volume_kms_key_arn),
            *statements.network(self._stack, props.subnet_ids, props.security_group_ids),
        ]
        iam.Policy(self, "Policy", roles=[self.role], statements=group)

    def _logs(self) -> list[iam.PolicyStatement]:
        group = self._arn("logs", f"log-group:{LOG_GROUP}")
        return [
            allow("LogGroup", ["logs:CreateLogGroup", "logs:DescribeLogStreams"], [group]),
            allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:log-stream:*"]),
            statements.metrics(),
        ]

    def _packages(self) -> list[iam.PolicyStatement]:
        props, stack = self._props, self._stack
        account = props.bucket_owner or stack.account
        owned, bucket = statements.owned_by(account), statements.bucket_arn(stack, props.bucket)
        objects = [
            *("s3:GetObject", "s3:PutObject"),
            *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
        ]
        group = [
            allow("Packages", objects, [f"{bucket}/{props.folder}*"], owned),
            # Whether the bucket is there is asked without a prefix; listings have one.
            allow(
                "PackageNames",
                ["s3:ListBucket"],
                [bucket],
                {**owned, "StringLikeIfExists": {"s3:prefix": [f"{props.folder}*"]}},
            ),
            # An upload that was cut off goes on where it stopped. This action knows no prefix.
            allow("Uploads", ["s3:ListBucketMultipartUploads"], [bucket], owned),
        ]
        if props.bucket_kms_key_arn:
            use = ["kms:Decrypt", "kms:GenerateDataKey"]
            group.append(allow("PackageKey", use, [props.bucket_kms_key_arn], statements.through_s3(stack)))
        return group

    def _secret(self) -> list[iam.PolicyStatement]:
        secret = self._props.token_secret
        if not secret:
            return []
        # Secrets Manager ends an ARN with a dash and six characters of its own.
        arn = secret if secret.startswith("arn:") else self._arn("secretsmanager", f"secret:{secret}-??????")
        return [allow("Token", ["secretsmanager:GetSecretValue"], [arn])]

    def _arn(self, service: str, resource: str) -> str:
        return statements.arn(self._stack, service, resource)


class CompileRoleStack(Stack):
    """The role alone; it costs nothing."""

    def __init__(self, scope: Construct, construct_id: str, *, props: CompileProps, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, description="inf2kit: role of compilation jobs", **kwargs)
        role = CompileRole(self, "Compile", props=props)
        CfnOutput(self, "RoleArn", value=role.role.role_arn)
        acknowledgements.explain_compile_role(self, props)
