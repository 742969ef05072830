"""Findings of template reviewers such as cdk-nag that are intended, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from inf2kit.compile.job_progress import LOG_GROUP
from inf2kit.deployment.props import EndpointProps
from inf2kit.names import log_group_name

if TYPE_CHECKING:
    from inf2kit.cdk.compile_role import CompileRoleProps

_WILDCARD = "AwsSolutions::AwsSolutions-IAM5[Resource::{resource}]"
_EMPTY_TEMPLATE = "CloudFormation-Validate::F0001"
_REGION_AND_ACCOUNT = "<AWS::Region>:<AWS::AccountId>"
_BUCKET = "arn:<AWS::Partition>:s3:::"
_LOG_GROUP = f"arn:<AWS::Partition>:logs:{_REGION_AND_ACCOUNT}:log-group:"
_NO_RESOURCE = {"*": "a registry login, metrics and the descriptions of a network have no resources to name"}
_INTERFACES = {
    f"arn:<AWS::Partition>:ec2:{_REGION_AND_ACCOUNT}:network-interface/*": (
        "an interface has no name before it is created; subnets and groups are named"
    )
}


def acknowledge_endpoint(stack: cdk.Stack, props: EndpointProps) -> None:
    """Acknowledge the intended findings in an endpoint's stack; any other finding fails a review."""
    reasons = {
        **_NO_RESOURCE,
        f"{_BUCKET}{props.package.bucket}/{props.package.folder}*": (
            "packages are immutable, and a rollback needs the previous one"
        ),
        f"{_LOG_GROUP}{log_group_name(props.endpoint_name)}:log-stream:*": (
            "SageMaker names the streams of this endpoint's log by instance"
        ),
    }
    if props.asynchronous:
        output = props.async_output.removeprefix("s3://")
        reasons[f"{_BUCKET}{output}*"] = "requests and answers of this endpoint, named by callers"
    if props.data_capture_percent:
        output = props.data_capture_output.removeprefix("s3://")
        reasons[f"{_BUCKET}{output}*"] = "captured calls of this endpoint, named by the hour"
    if props.subnet_ids:
        reasons |= _INTERFACES
    _acknowledge_wildcards(stack, reasons)


def acknowledge_compile_role(stack: cdk.Stack, props: CompileRoleProps) -> None:
    """Acknowledge the intended findings in the stack of the compilation role."""
    reasons = {
        **_NO_RESOURCE,
        f"{_BUCKET}{props.bucket}/{props.folder}*": "a package's digest is not known before it is written",
        f"{_LOG_GROUP}{LOG_GROUP}:log-stream:*": "SageMaker names the streams by job",
    }
    if props.token_secret and not props.token_secret.startswith("arn:"):
        secret = f"arn:<AWS::Partition>:secretsmanager:{_REGION_AND_ACCOUNT}:secret:{props.token_secret}"
        reasons[f"{secret}-??????"] = "Secrets Manager appends six characters to the name in an ARN"
    if props.subnet_ids:
        reasons |= _INTERFACES
    _acknowledge_wildcards(stack, reasons)


def acknowledge_empty(stack: cdk.Stack) -> None:
    """Acknowledge that a stack which cannot be deployed has no resources."""
    _acknowledge(stack, {_EMPTY_TEMPLATE: "it is never deployed: its error says what is missing"})


def _acknowledge_wildcards(stack: cdk.Stack, reasons: dict[str, str]) -> None:
    _acknowledge(stack, {_WILDCARD.format(resource=resource): reason for resource, reason in reasons.items()})


def _acknowledge(stack: cdk.Stack, reasons: dict[str, str]) -> None:
    validations = cdk.Validations.of(stack)
    for finding, reason in reasons.items():
        validations.acknowledge(cdk.Acknowledgment(id=finding, reason=reason))
