"""Findings of reviewing tools that are meant to be, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from inf2kit.cdk.props import EndpointProps
from inf2kit.compile.job_progress import LOG_GROUP

if TYPE_CHECKING:
    from inf2kit.cdk.compile_role import CompileProps

_WILDCARD = "AwsSolutions::AwsSolutions-IAM5[Resource::{resource}]"
_INTERFACE = "an interface has no name before it is made; subnets and groups are named"
_EMPTY = "CloudFormation-Validate::F0001"


def explain(stack: cdk.Stack, props: EndpointProps) -> None:
    """Acknowledge what a review would ask about; a finding that is not listed fails."""
    where = "<AWS::Region>:<AWS::AccountId>"
    log = f"arn:<AWS::Partition>:logs:{where}:log-group:/aws/sagemaker/Endpoints/{props.endpoint_name}"
    bucket = "arn:<AWS::Partition>:s3:::"
    reasons = {
        "*": "a registry login, metrics and the descriptions of a network have no resources to name",
        f"{bucket}{props.package.bucket}/{props.package.folder}*": (
            "packages are immutable, and a roll-back needs the one before"
        ),
        f"{log}:log-stream:*": "SageMaker names the streams of this endpoint's own log by its instances",
    }
    if props.asynchronous:
        output = props.async_output.removeprefix("s3://")
        reasons[f"{bucket}{output}*"] = "requests and answers of this endpoint, named by their callers"
    if props.data_capture_percent:
        captured = props.data_capture_output.removeprefix("s3://")
        reasons[f"{bucket}{captured}*"] = "captured calls of this endpoint, named by the hour"
    if props.subnet_ids:
        interface = f"arn:<AWS::Partition>:ec2:{where}:network-interface/*"
        reasons[interface] = _INTERFACE
    _acknowledge(stack, _wildcards(reasons))


def explain_compile_role(stack: cdk.Stack, props: CompileProps) -> None:
    """Acknowledge what a review would ask about the role of compilation jobs."""
    where = "<AWS::Region>:<AWS::AccountId>"
    log = f"arn:<AWS::Partition>:logs:{where}:log-group:{LOG_GROUP}"
    packages = f"arn:<AWS::Partition>:s3:::{props.bucket}/{props.folder}*"
    reasons = {
        "*": "a registry login, metrics and the descriptions of a network have no resources to name",
        packages: "a package's digest is known when it is written",
        f"{log}:log-stream:*": "SageMaker names the streams by its jobs",
    }
    if props.token_secret and not props.token_secret.startswith("arn:"):
        secret = f"arn:<AWS::Partition>:secretsmanager:{where}:secret:{props.token_secret}-??????"
        reasons[secret] = "Secrets Manager ends an ARN with six characters of its own"
    if props.subnet_ids:
        interface = f"arn:<AWS::Partition>:ec2:{where}:network-interface/*"
        reasons[interface] = _INTERFACE
    _acknowledge(stack, _wildcards(reasons))


def explain_empty(stack: cdk.Stack) -> None:
    """A stack that cannot be deployed is empty on purpose."""
    _acknowledge(stack, {_EMPTY: "it is never deployed: its error says what is missing"})


def _wildcards(reasons: dict[str, str]) -> dict[str, str]:
    return {_WILDCARD.format(resource=resource): reason for resource, reason in reasons.items()}


def _acknowledge(stack: cdk.Stack, reasons: dict[str, str]) -> None:
    validations = cdk.Validations.of(stack)
    for finding, reason in reasons.items():
        validations.acknowledge(cdk.Acknowledgment(id=finding, reason=reason))
