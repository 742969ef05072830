"""Which CloudFormation stack a resource belongs to: such a resource is the stack's to delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit.inventory.resources import Resource
from inf2kit.names import COMPILE_ROLE_STACK, PRESET_TAG


@dataclass(frozen=True)
class Stack:
    """A stack of inf2kit.

    Attributes:
        name: Its name.
        status: CloudFormation's status.
        reason: The reason for that status; often empty.
        outputs: Its outputs.
    """

    name: str
    status: str
    reason: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ownership:
    """The stacks of inf2kit, and what they have created.

    Attributes:
        stacks: The stacks.
        owners: The stack of each physical id: an ARN or a name.
    """

    stacks: tuple[Stack, ...]
    owners: Mapping[str, str]

    @classmethod
    def read(cls, cloudformation: Any) -> Ownership:
        """Read the stacks and their resources.

        Raises:
            botocore.exceptions.ClientError: CloudFormation refuses.
        """
        stacks = list_stacks(cloudformation)
        owners = {}
        for stack in stacks:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
            for page in pages:
                for resource in page["StackResourceSummaries"]:
                    if resource["ResourceStatus"] != "DELETE_COMPLETE":
                        owners[resource.get("PhysicalResourceId", "")] = stack.name
        return cls(tuple(stacks), owners)

    def stack_of(self, resource: Resource) -> str:
        """Return the name of the stack that a resource belongs to; empty if it belongs to none."""
        return self.owners.get(resource.arn) or self.owners.get(resource.name, "")


def list_stacks(cloudformation: Any) -> list[Stack]:
    """List the stacks of inf2kit: those that are tagged with a preset, and that of the compilation role.

    Raises:
        botocore.exceptions.ClientError: CloudFormation refuses.
    """
    stacks = []
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            name, tags = stack["StackName"], {tag["Key"] for tag in stack.get("Tags", ())}
            if PRESET_TAG in tags or name == COMPILE_ROLE_STACK:
                outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", ())}
                stacks.append(Stack(name, stack["StackStatus"], stack.get("StackStatusReason", ""), outputs))
    return stacks
