"""The permissions of an endpoint: its execution role, and what a caller is granted."""

from __future__ import annotations

import hashlib
import json

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from inf2kit.cdk import statements
from inf2kit.cdk.statements import allow
from inf2kit.deployment.props import EndpointProps

_INVOKE = ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")
#: What a bearer token of SageMaker's route for OpenAI's clients needs besides; it has no resources.
_WITH_TOKEN = ("sagemaker:CallWithBearerToken",)
_INVOKE_ASYNC = ("sagemaker:InvokeEndpointAsync",)


class ExecutionRole(Construct):
    """The permissions of SageMaker and the container on behalf of the endpoint, and nothing else.

    Attributes:
        role: The execution role of the Model.
        policies: The role's policies. They must exist before the Model, as SageMaker checks them on creation.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        props: EndpointProps,
        log_group: logs.CfnLogGroup,
        rollback_alarm_names: list[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack, self._props = Stack.of(self), props
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=statements.sagemaker_principal(self._stack),
            description=f"Execution role of the endpoint {props.endpoint_name}",
        )
        groups = {
            "Policy": [
                *statements.pull_image(self._stack),
                self._write_log(log_group),
                statements.put_metrics(),
                self._read_alarms(rollback_alarm_names),
            ],
            "Packages": self._read_packages(),
            "Async": self._serve_async_calls(),
            "Capture": self._capture_data(),
            "Volume": statements.encrypt_volume(props.kms_key_arn),
            "Network": statements.join_vpc(self._stack, props.subnet_ids, props.security_group_ids),
        }
        self.policies = [self._policy(name, group) for name, group in groups.items() if group]

    def _policy(self, name: str, group: list[iam.PolicyStatement]) -> iam.Policy:
        """A policy whose logical id is a hash of its content, so that it is never changed in place.

        An update adds the new policy first. CloudFormation deletes the old one during cleanup, when no
        instance needs it any more. A change in place would take permissions from the running instances.
        """
        content = json.dumps(
            self._stack.resolve([statement.to_statement_json() for statement in group]), sort_keys=True
        )
        construct_id = f"{name}{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        return iam.Policy(self, construct_id, roles=[self.role], statements=group)

    def _read_packages(self) -> list[iam.PolicyStatement]:
        """Read every package of the folder: a rollback needs the previous one, whatever the stack deploys."""
        props, stack = self._props, self._stack
        package, owner = props.package, bucket_owner(stack, props, props.package.bucket)
        objects = statements.objects_arn(stack, f"s3://{package.bucket}/{package.folder}")
        group = [
            allow("Package", ["s3:GetObject"], [objects], statements.owned_by(owner)),
            statements.list_objects(stack, "PackageNames", package.bucket, package.folder, owner),
        ]
        if props.package_kms_key_arn:
            group.append(statements.decrypt_objects(stack, "PackageKey", [props.package_kms_key_arn]))
        return group

    def _write_log(self, log_group: logs.CfnLogGroup) -> iam.PolicyStatement:
        group = statements.arn(self._stack, "logs", f"log-group:{log_group.log_group_name}")
        actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        return allow("Logs", actions, [f"{group}:log-stream:*", group])

    def _read_alarms(self, names: list[str]) -> iam.PolicyStatement:
        """SageMaker reads the rollback alarms with the role during an update."""
        alarms = [statements.arn(self._stack, "cloudwatch", f"alarm:{name}") for name in names]
        return allow("RollbackAlarms", ["cloudwatch:DescribeAlarms"], alarms)

    def _serve_async_calls(self) -> list[iam.PolicyStatement]:
        props = self._props
        if not props.asynchronous:
            return []
        # The requests are under the same prefix as the answers.
        return self._write_objects(props.async_output, "Async", "s3:GetObject")

    def _capture_data(self) -> list[iam.PolicyStatement]:
        props = self._props
        return self._write_objects(props.data_capture_output, "Capture") if props.data_capture_percent else []

    def _write_objects(self, uri: str, sid: str, *more_actions: str) -> list[iam.PolicyStatement]:
        stack, props = self._stack, self._props
        bucket = uri.removeprefix("s3://").partition("/")[0]
        actions = ["s3:AbortMultipartUpload", "s3:PutObject", *more_actions]
        owned = statements.owned_by(bucket_owner(stack, props, bucket))
        group = [allow(sid, actions, [statements.objects_arn(stack, uri)], owned)]
        # An object for which no key is named is encrypted with the bucket's default key.
        key = props.kms_key_arn or _bucket_key(props, bucket)
        if key:
            group.append(statements.encrypt_objects(stack, f"{sid}Key", [key]))
        return group


def bucket_owner(stack: Stack, props: EndpointProps, bucket: str) -> str:
    """The account that must own a bucket: the deploying one, unless ``props.bucket_owner`` applies."""
    return props.bucket_owner if props.bucket_owner and bucket == props.package.bucket else stack.account


def grant_invoke(grantee: iam.IGrantable, stack: Stack, endpoint_arn: str, props: EndpointProps) -> iam.Grant:
    """Allow a role, user or function to call an endpoint.

    Args:
        grantee: A construct of any stack of the app.
        stack: The endpoint's stack.
        endpoint_arn: The endpoint's ARN.
        props: The endpoint's props. Callers of an asynchronous endpoint also get its requests and answers
            in S3; others may call it with a bearer token too, as OpenAI's clients do.
    """
    grant = iam.Grant.add_to_principal(
        grantee=grantee,
        actions=list(_INVOKE_ASYNC if props.asynchronous else _INVOKE),
        resource_arns=[endpoint_arn],
    )
    if props.asynchronous:
        statements_besides = _exchange_async_objects(stack, props)
    else:
        statements_besides = [allow("Token", _WITH_TOKEN, ["*"])]
    for statement in statements_besides:
        grantee.grant_principal.add_to_principal_policy(statement)
    return grant


def _exchange_async_objects(stack: Stack, props: EndpointProps) -> list[iam.PolicyStatement]:
    """Write the requests of asynchronous calls to S3, and read their answers."""
    bucket, _, prefix = props.async_output.removeprefix("s3://").partition("/")
    account = bucket_owner(stack, props, bucket)
    owned = statements.owned_by(account)
    requests, answers, failures = (
        statements.objects_arn(stack, f"{props.async_output}{name}/")
        for name in ("requests", "answers", "failures")
    )
    group = [
        allow("Requests", ["s3:AbortMultipartUpload", "s3:PutObject"], [requests], owned),
        allow("Answers", ["s3:GetObject"], [answers, failures], owned),
        # Without this an answer that does not exist yet is a 403 instead of a 404.
        statements.list_objects(stack, "AnswerNames", bucket, prefix, account),
    ]
    keys = sorted({key for key in (props.kms_key_arn, _bucket_key(props, bucket)) if key})
    if keys:
        group.append(statements.encrypt_objects(stack, "AsyncKey", keys))
    return group


def _bucket_key(props: EndpointProps, bucket: str) -> str:
    """The default key of a bucket, which is known for the package's bucket only."""
    return props.package_kms_key_arn if bucket == props.package.bucket else ""
