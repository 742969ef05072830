"""Deleting the resources of a stack, in the reverse order of their dependencies."""

from __future__ import annotations

import graphlib
from collections.abc import Collection

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation.resources import Services
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack, StackResource

#: The largest ResourceStatusReason.
REASON_LENGTH = 1024


def delete_all(stack: LiveStack, services: Services, retained: Collection[str]) -> list[str]:
    """Delete the resources of a stack, each before those that it depends on.

    Args:
        stack: The stack.
        services: The services that have the resources.
        retained: The logical ids of those that are kept, outside the stack.

    Returns:
        The logical ids of those that failed. What they depend on is not tried.
    """
    failed: list[str] = []
    needed: set[str] = set()
    for resource in deletion_order(stack.deployed.values()):
        name = resource.logical_id
        if name not in needed and delete_resource(stack, services, resource, retain=name in retained):
            del stack.deployed[name]
            continue
        if name not in needed:
            failed.append(name)
        needed |= resource.dependencies
    return failed


def delete_resource(stack: LiveStack, services: Services, resource: StackResource, *, retain: bool) -> bool:
    """Delete a resource, or retain it; False if that failed."""

    def record(status: str, reason: str = "") -> None:
        stack.record_event(resource.logical_id, resource.kind, status, reason, resource.physical.id)

    if retain:
        record("DELETE_SKIPPED")
        return True
    record("DELETE_IN_PROGRESS")
    try:
        resource.handler.delete(services, resource.physical, resource.properties)
    except Exception as error:
        if not _is_not_found(error):
            record("DELETE_FAILED", reason_of(error))
            return False
    record("DELETE_COMPLETE")
    return True


def deletion_order(deployed: Collection[StackResource]) -> list[StackResource]:
    """List resources, each before those that it depends on."""
    graph = {
        resource: [
            other for other in deployed if other.logical_id in resource.dependencies and other is not resource
        ]
        for resource in deployed
    }
    return list(graphlib.TopologicalSorter(graph).static_order())[::-1]


def reason_of(error: Exception) -> str:
    """The ResourceStatusReason of an error."""
    if isinstance(error, ClientError):
        fault = error.response["Error"]
        reason = f'Resource handler returned message: "{fault.get("Message")}" ({fault.get("Code")})'
        return reason[:REASON_LENGTH]
    if isinstance(error, KeyError):
        return f"the property or attribute {error} is missing"
    return str(error)[:REASON_LENGTH]


def _is_not_found(error: Exception) -> bool:
    """Whether a deletion failed because the resource does not exist."""
    if not isinstance(error, ClientError):
        return False
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    # SageMaker's code is that of any wrong request.
    is_sagemakers = code == "ValidationException" and message.startswith("Could not find ")
    return "NotFound" in code or code.startswith("NoSuch") or is_sagemakers
