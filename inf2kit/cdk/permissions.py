"""Who may do what: the container's execution role, and whoever calls the endpoint."""

from __future__ import annotations

import hashlib
import json

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from inf2kit.cdk import statements
from inf2kit.cdk.props import EndpointProps
from inf2kit.cdk.statements import allow

_INVOKE = ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")
_ASYNC_PLACES = ("requests", "answers", "failures")


class ExecutionRole(Construct):
    """What SageMaker and the container may do on the endpoint's behalf, and nothing else.

    Attributes:
        role: For the Model.
        policies: Must be there before the Model is made, which is checked against them.
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
                *statements.image(self._stack),
                *self._logs(log_group),
                self._rollback(rollback_alarm_names),
            ],
            "Packages": self._packages(),
            "Async": self._async(),
            "Capture": self._capture(),
            "Volume": statements.volume_key(props.kms_key_arn),
            "Network": statements.network(self._stack, props.subnet_ids, props.security_group_ids),
        }
        self.policies = [self._policy(name, group) for name, group in groups.items() if group]

    def _policy(self, name: str, group: list[iam.PolicyStatement]) -> iam.Policy:
        """A policy that is named by what it says.

        So it is never changed: an update adds the new one first, and CloudFormation takes the old one away
        when no fleet runs by it any more. Changed in place, it would take rights from the fleet that serves.
        """
        content = json.dumps(
            self._stack.resolve([each.to_statement_json() for each in group]), sort_keys=True
        )
        construct_id = f"{name}{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        return iam.Policy(self, construct_id, roles=[self.role], statements=group)

    def _packages(self) -> list[iam.PolicyStatement]:
        """All packages of the prefix, not one: a roll-back needs the one before, whatever the stack says."""
        props, stack = self._props, self._stack
        package, owner = props.package, self._owner(props.package.bucket)
        uri = f"s3://{package.bucket}/{package.folder}"
        group = [
            allow("Package", ["s3:GetObject"], [statements.below(stack, uri)], statements.owned_by(owner)),
            statements.listing(stack, "PackageNames", package.bucket, package.folder, owner),
        ]
        if props.package_kms_key_arn:
            decrypt, key = ["kms:Decrypt"], props.package_kms_key_arn
            group.append(allow("PackageKey", decrypt, [key], statements.through_s3(stack)))
        return group

    def _logs(self, group: logs.CfnLogGroup) -> list[iam.PolicyStatement]:
        name = str(group.log_group_name)
        return [
            allow(
                "Logs",
                ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                [
                    self._arn("logs", f"log-group:{name}:log-stream:*"),
                    self._arn("logs", f"log-group:{name}"),
                ],
            ),
            statements.metrics(),
        ]

    def _rollback(self, names: list[str]) -> iam.PolicyStatement:
        alarms = [self._arn("cloudwatch", f"alarm:{name}") for name in names]
        return allow("RollbackAlarms", ["cloudwatch:DescribeAlarms"], alarms)

    def _async(self) -> list[iam.PolicyStatement]:
        props = self._props
        if not props.asynchronous:
            return []
        # Callers put their requests beside the answers.
        return self._written(props.async_output, "Async", ["s3:GetObject"])

    def _capture(self) -> list[iam.PolicyStatement]:
        props = self._props
        if not props.data_capture_percent:
            return []
        return self._written(props.data_capture_output, "Capture", [])

    def _written(self, uri: str, sid: str, more: list[str]) -> list[iam.PolicyStatement]:
        stack, props = self._stack, self._props
        bucket = uri.removeprefix("s3://").partition("/")[0]
        actions = ["s3:AbortMultipartUpload", "s3:PutObject", *more]
        owned = statements.owned_by(self._owner(bucket))
        group = [allow(sid, actions, [statements.below(stack, uri)], owned)]
        # What names no key of its own is encrypted with the bucket's.
        of_bucket = props.package_kms_key_arn if bucket == props.package.bucket else ""
        key = props.kms_key_arn or of_bucket
        if key:
            use = ["kms:Decrypt", "kms:GenerateDataKey"]
            group.append(allow(f"{sid}Key", use, [key], statements.through_s3(stack)))
        return group

    def _owner(self, bucket: str) -> str:
        return owner(self._stack, self._props, bucket)

    def _arn(self, service: str, resource: str) -> str:
        return statements.arn(self._stack, service, resource)


def owner(stack: Stack, props: EndpointProps, bucket: str) -> str:
    """The account that a bucket must belong to."""
    return props.bucket_owner if props.bucket_owner and bucket == props.package.bucket else stack.account


def grant_invoke(grantee: iam.IGrantable, stack: Stack, endpoint_arn: str, props: EndpointProps) -> iam.Grant:
    """Let somebody call an endpoint, in the ways that it answers.

    Args:
        grantee: A role, a user, a function.
        stack: Has the endpoint.
        endpoint_arn: The endpoint's ARN.
        props: What it is; an asynchronous endpoint is called through S3.
    """
    if not props.asynchronous:
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(_INVOKE), resource_arns=[endpoint_arn]
        )
    grant = iam.Grant.add_to_principal(
        grantee=grantee, actions=["sagemaker:InvokeEndpointAsync"], resource_arns=[endpoint_arn]
    )
    for statement in async_caller(stack, props):
        grantee.grant_principal.add_to_principal_policy(statement)
    return grant


def async_caller(stack: Stack, props: EndpointProps) -> list[iam.PolicyStatement]:
    """What callers of an asynchronous endpoint need in S3: to put requests, and to read the answers."""
    bucket, _, prefix = props.async_output.removeprefix("s3://").partition("/")
    account = owner(stack, props, bucket)
    owned = statements.owned_by(account)
    places = {name: statements.below(stack, f"{props.async_output}{name}/") for name in _ASYNC_PLACES}
    group = [
        allow("Requests", ["s3:AbortMultipartUpload", "s3:PutObject"], [places["requests"]], owned),
        allow("Answers", ["s3:GetObject"], [places["answers"], places["failures"]], owned),
        # Without it an answer that is not there yet is a 403 instead of a 404.
        statements.listing(stack, "AnswerNames", bucket, prefix, account),
    ]
    of_bucket = props.package_kms_key_arn if bucket == props.package.bucket else ""
    keys = sorted({key for key in (props.kms_key_arn, of_bucket) if key})
    if keys:
        use = ["kms:Decrypt", "kms:GenerateDataKey"]
        group.append(allow("AsyncKey", use, keys, statements.through_s3(stack)))
    return group
