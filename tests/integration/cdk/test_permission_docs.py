"""The policies of docs/permissions.md: what the code needs, in a form that can be attached."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import boto3
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

import inf2kit
from inf2kit.cdk import EndpointStack
from infra.context import Context
from tests.helpers.cdk import register_package

pytestmark = pytest.mark.usefixtures("home")

PAGE = (Path(inf2kit.__file__).parents[1] / "docs/permissions.md").read_text(encoding="utf-8")
SECTIONS = {
    heading: [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
#: botocore's services, where the prefix of an action is another word.
SERVICES = {
    "sagemaker": ("sagemaker", "sagemaker-runtime"),
    "kms": ("kms",),
    "servicequotas": ("service-quotas",),
    "s3": ("s3",),
}
#: Actions that are named by no operation.
OF_S3 = {
    "s3:ListBucket": "ListObjectsV2",
    "s3:ListBucketMultipartUploads": "ListMultipartUploads",
    "s3:ListMultipartUploadParts": "ListParts",
}
PASSED = {"iam:PassRole", "sagemaker:CallWithBearerToken"}


def statements(heading: str | None = None) -> list[dict[str, Any]]:
    """The statements of one section, or of all."""
    return [
        statement
        for name, policies in SECTIONS.items()
        if heading in (None, name)
        for policy in policies
        for statement in policy["Statement"]
    ]


def listed(value: str | list[str]) -> list[str]:
    """A text or several."""
    return [value] if isinstance(value, str) else value


def test_every_action_is_one_that_botocore_knows() -> None:
    actions = {action for statement in statements() for action in listed(statement["Action"])} - PASSED
    assert len(actions) > 50
    for action in actions:
        prefix, name = action.split(":")
        operations = {
            operation
            for service in SERVICES.get(prefix, (prefix,))
            for operation in boto3.client(service, region_name="us-east-1").meta.service_model.operation_names
        }
        assert OF_S3.get(action, name) in operations, action


def test_no_statement_on_s3_is_for_anybodys_bucket() -> None:
    for statement in statements():
        if any(action.startswith("s3:") for action in listed(statement["Action"])):
            assert statement["Condition"]["StringEquals"] == {"aws:ResourceAccount": "ACCOUNT"}


@pytest.mark.parametrize(
    ("heading", "context"),
    [("Calling an endpoint", {}), ("Calling an asynchronous endpoint", {"asynchronous": "true"})],
)
def test_callers_get_what_the_construct_grants(heading: str, context: dict[str, str]) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    app = cdk.App()
    settings = Context.parse({"package": register_package(preset), **context})
    stack = EndpointStack(app, "stack", props=settings.endpoint_props(preset))
    stack.grant_invoke(iam.User(stack, "Caller"))
    granted = [
        statement
        for policy in Template.from_stack(stack).find_resources("AWS::IAM::Policy").values()
        if "Users" in policy["Properties"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]
    written = [statement for statement in statements(heading) if statement.get("Sid") != "Find"]
    assert sorted(action for statement in written for action in listed(statement["Action"])) == sorted(
        action for statement in granted for action in listed(statement["Action"])
    )
