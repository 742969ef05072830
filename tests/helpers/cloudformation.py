"""Create, update and delete stacks of the rehearsal cloud with plain boto3."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from botocore.exceptions import ClientError

from tests.helpers.servers import wait_until

Resource = dict[str, Any]
Resources = dict[str, Resource]

#: A resource that its service refuses, since the role does not exist.
IMPOSSIBLE: Resource = {
    "Type": "AWS::IAM::Policy",
    "Properties": {"PolicyName": "p", "PolicyDocument": {"Statement": []}, "Roles": ["nobody"]},
}
_CAPABILITIES = ["CAPABILITY_NAMED_IAM"]


def template(resources: Resources) -> str:
    return json.dumps({"Resources": resources})


def log_group(name: str, **attributes: Any) -> Resource:
    return {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}, **attributes}


def parameter(name: str, value: Any) -> Resource:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Name": name, "Type": "String", "Value": value}}


def list_log_groups(logs: Any) -> set[str]:
    """List the names of all log groups with a boto3 client of CloudWatch Logs."""
    pages = logs.get_paginator("describe_log_groups").paginate()
    return {group["logGroupName"] for page in pages for group in page["logGroups"]}


class StackMaker:
    """Create stacks, wait for them, and delete them.

    Args:
        client: A boto3 client of CloudFormation.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._names: set[str] = set()

    def create(self, name: str, resources: Resources, **options: Any) -> str:
        """Create a stack, and return its status when it has settled."""
        self.delete_later(name)
        self.client.create_stack(
            StackName=name, TemplateBody=template(resources), Capabilities=_CAPABILITIES, **options
        )
        return self.wait_until_settled(name)

    def update(self, name: str, resources: Resources, **options: Any) -> str:
        """Update a stack, and return its status when it has settled."""
        self.client.update_stack(
            StackName=name, TemplateBody=template(resources), Capabilities=_CAPABILITIES, **options
        )
        return self.wait_until_settled(name)

    def delete(self, name: str) -> str:
        """Delete a stack, and return its status when it has settled."""
        stack_id = self.describe(name)["StackId"]
        self.client.delete_stack(StackName=name)
        return self.wait_until_settled(stack_id)

    def delete_later(self, *names: str) -> None:
        """Remember stacks that ``delete_all`` must delete."""
        self._names.update(names)

    def delete_all(self) -> None:
        """Delete every stack that still exists."""
        for name in self._names:
            with contextlib.suppress(ClientError):
                self.delete(name)

    def describe(self, name: str) -> dict[str, Any]:
        stack: dict[str, Any] = self.client.describe_stacks(StackName=name)["Stacks"][0]
        return stack

    def wait_until_settled(self, name: str) -> str:
        """Wait until no change of a stack is in progress, and return its status."""

        def status() -> str:
            current = str(self.describe(name)["StackStatus"])
            return "" if current.endswith("_IN_PROGRESS") else current

        return wait_until(status, f"{name} has settled")

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """List logical id, status and reason of each event, the oldest first."""
        events = self.client.describe_stack_events(StackName=name)["StackEvents"][::-1]
        return [
            (event["LogicalResourceId"], event["ResourceStatus"], event.get("ResourceStatusReason", ""))
            for event in events
        ]
