"""The execution role of compilation jobs: one S3 prefix, one secret, one image and the jobs' log."""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from inf2kit.cdk import acknowledgements, statements
from inf2kit.cdk.props import CompileRoleProps
from inf2kit.cdk.statements import allow
from inf2kit.compile.job_progress import LOG_GROUP

_OBJECT_ACTIONS = (
    *("s3:GetObject", "s3:PutObject"),
    *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
)


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
