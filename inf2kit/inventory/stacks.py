"""Which CloudFormation stack a resource belongs to: such a resource is the stack's to delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        existing: Names of all stacks of the region, of inf2kit or not.
    """

    stacks: tuple[Stack, ...]
    owners: Mapping[str, str]
    existing: frozenset[str]

    @classmethod
    def read(cls, cloudformation: Any) -> Ownership:
        """Read the stacks and their resources.

        Raises:
            botocore.exceptions.ClientError: CloudFormation refuses.
        """
        descriptions = list(_describe_stacks(cloudformation))
        stacks = [_parse(stack) for stack in descriptions if _is_own(stack)]
        owners = {}
        for stack in stacks:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
            for page in pages:
                for resource in page["StackResourceSummaries"]:
                    if resource["ResourceStatus"] != "DELETE_COMPLETE":
                        owners[resource.get("PhysicalResourceId", "")] = stack.name
        existing = frozenset(stack["StackName"] for stack in descriptions)
        return cls(tuple(stacks), owners, existing)

    def stack_of(self, resource: Resource) -> str:
        """Return the name of the stack that a resource belongs to; empty if it belongs to none.

        What a deleted stack has retained still has the tag of that stack, and belongs to nobody.
        """
        if resource.stack in self.existing:
            return resource.stack
        return self.owners.get(resource.arn) or self.owners.get(resource.name, "")


def list_stacks(cloudformation: Any) -> list[Stack]:
    """List the stacks of inf2kit: those that are tagged with a preset, and that of the compilation role.

    Raises:
        botocore.exceptions.ClientError: CloudFormation refuses.
    """
    return [_parse(stack) for stack in _describe_stacks(cloudformation) if _is_own(stack)]


def _describe_stacks(cloudformation: Any) -> Iterator[dict[str, Any]]:
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        yield from page["Stacks"]


def _is_own(stack: Mapping[str, Any]) -> bool:
    tags = {tag["Key"] for tag in stack.get("Tags", ())}
    return PRESET_TAG in tags or stack["StackName"] == COMPILE_ROLE_STACK


def _parse(stack: Mapping[str, Any]) -> Stack:
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", ())}
    return Stack(stack["StackName"], stack["StackStatus"], stack.get("StackStatusReason", ""), outputs)
