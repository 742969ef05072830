"""Deployments: create, update or delete the resources of a stack, and roll back a failure."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Mapping
from typing import Any

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.desired import DesiredStack, unsupported
from inf2kit.rehearsal.cloud.cloudformation.intrinsics import Resolver
from inf2kit.rehearsal.cloud.cloudformation.resources import (
    CreatedButFailedError,
    PhysicalResource,
    Services,
)
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack, Policies, StackResource, Version
from inf2kit.rehearsal.cloud.errors import AwsError

#: The largest ResourceStatusReason.
_REASON_LENGTH = 1024
_REPLACES = "Requested update requires the creation of a new physical resource"


class _FailedError(Exception):
    """A resource that could not be created or updated; the message is the reason."""


class Deployment:
    """One change of one stack; the caller runs it on a thread of its own.

    Args:
        stack: The stack to change.
        services: The services that create the resources.
    """

    def __init__(self, stack: LiveStack, services: Services) -> None:
        self._stack, self._services = stack, services

    def run(self, desired: DesiredStack, verb: str) -> None:
        """Create or update the stack, and roll back a failure if the stack wants that.

        Args:
            desired: What the stack shall become.
            verb: ``CREATE`` or ``UPDATE``.
        """
        resolver = Resolver(desired.template, desired.names, self._look_up, desired.exports)
        try:
            active = resolver.active_resources()
            for logical_id in template.creation_order(active):
                self._deploy(logical_id, active[logical_id], resolver)
            outputs = _outputs(resolver)
        except (_FailedError, AwsError) as error:
            reason = str(error)[:_REASON_LENGTH]
            if desired.rollback:
                self._roll_back(verb, reason)
            else:
                self._stack.set_status(f"{verb}_FAILED", reason)
            return
        self._finish(desired, verb, active, outputs)

    def delete(self) -> None:
        """Delete all resources that are not retained, each before those that it depends on."""
        for resource in _deletion_order(self._stack.deployed.values()):
            if not self._delete(resource, retain=resource.policies.retain):
                self._stack.set_status(
                    "DELETE_FAILED", f"The following resource(s) failed to delete: [{resource.logical_id}]."
                )
                return
            del self._stack.deployed[resource.logical_id]
        self._stack.set_status("DELETE_COMPLETE")

    def roll_back(self) -> None:
        """Roll back a failed deployment that was left as it was."""
        verb = "UPDATE" if self._stack.version.template else "CREATE"
        self._roll_back(verb, "User Initiated")

    def _finish(
        self,
        desired: DesiredStack,
        verb: str,
        active: Collection[str],
        outputs: list[dict[str, Any]],
    ) -> None:
        """Record a success and delete what the stack no longer needs."""
        stack = self._stack
        stack.template = desired.text
        resolved = {name: desired.names.get(name) for name in desired.parameters}
        stack.version = Version(desired.text, desired.parameters, resolved, outputs)
        if verb == "UPDATE":
            stack.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        removed = [resource for name, resource in stack.deployed.items() if name not in active]
        for resource in removed:
            del stack.deployed[resource.logical_id]
        replaced = list(stack.replaced)
        stack.replaced.clear()
        stack.journal.clear()
        # A failed deletion does not fail the deployment; the events name the resource.
        for resource in _deletion_order([*replaced, *removed]):
            policies = resource.policies
            self._delete(
                resource, retain=policies.retain_replaced if resource in replaced else policies.retain
            )
        stack.set_status(f"{verb}_COMPLETE")

    def _look_up(self, logical_id: str, attribute: str | None) -> Any:
        resource = self._stack.deployed.get(logical_id)
        if resource is None:
            raise AwsError("ValidationError", f"The resource {logical_id} is not there.")
        if attribute is None:
            return resource.physical.id
        try:
            return resource.physical.attributes[attribute]
        except KeyError:
            raise AwsError(
                "ValidationError",
                f"Requested attribute {attribute} does not exist for resource {logical_id} "
                f"({resource.kind}) in this rehearsal.",
            ) from None

    def _deploy(self, logical_id: str, definition: Mapping[str, Any], resolver: Resolver) -> None:
        """Create or update one resource, if it is not as its definition says."""
        stack, kind = self._stack, str(definition["Type"])
        if stack.cancelled.is_set():
            raise _FailedError("Resource creation cancelled")
        handler = resources.find_handler(kind)
        if handler is None:
            raise _FailedError(unsupported(kind))
        properties = resolver.resolve(definition.get("Properties", {}))
        policies = Policies.from_template(definition)
        dependencies = frozenset(template.dependencies(definition))
        before = stack.deployed.get(logical_id)
        if before and before.failed:
            # Deleted first: its replacement may have the same name.
            self._delete(before, retain=False)
            del stack.deployed[logical_id]
            before = None
        if before and before.kind == kind and before.properties == properties:
            before.policies, before.dependencies = policies, dependencies
            return
        is_replaced = before is not None and (
            before.kind != kind or resources.replaces(kind, before.properties, properties)
        )

        def put() -> PhysicalResource:
            if before and not is_replaced:
                # Recorded before the attempt: an update that fails half-way must be undone too.
                stack.journal.append(lambda: self._undo_update(before, properties))
                return handler.update(self._services, before.physical, before.properties, properties)
            name = handler.name(stack.name, logical_id, properties)
            return handler.create(self._services, name, properties)

        verb = "UPDATE" if before else "CREATE"
        stack.record_event(
            logical_id,
            kind,
            f"{verb}_IN_PROGRESS",
            _REPLACES if is_replaced else "",
            before.physical.id if before else "",
        )
        try:
            physical, failure = put(), ""
        except CreatedButFailedError as error:
            physical, failure = error.physical, str(error)
        except Exception as error:
            reason = _reason(error)
            stack.record_event(logical_id, kind, f"{verb}_FAILED", reason)
            raise _failed(verb, logical_id, reason) from None
        resource = StackResource(logical_id, kind, handler, physical, properties, dependencies)
        stack.deployed[logical_id] = resource
        if failure or not before or is_replaced:
            stack.journal.append(lambda: self._undo_create(logical_id, before))
        if failure:
            resource.failed = True
            reason = f'Resource handler returned message: "{failure}" (HandlerErrorCode: NotStabilized)'
            stack.record_event(logical_id, kind, f"{verb}_FAILED", reason[:_REASON_LENGTH], physical.id)
            raise _failed(verb, logical_id, failure)
        resource.policies = policies
        if before and is_replaced:
            stack.replaced.append(before)
        stack.record_event(logical_id, kind, f"{verb}_COMPLETE", physical_id=physical.id)

    def _undo_create(self, logical_id: str, before: StackResource | None) -> None:
        resource = self._stack.deployed.pop(logical_id, None)
        if before:
            self._stack.deployed[logical_id] = before
            self._stack.replaced[:] = [other for other in self._stack.replaced if other is not before]
        if resource:
            self._delete(resource, retain=resource.policies.retain_on_rollback and not before)

    def _undo_update(self, before: StackResource, properties: Mapping[str, Any]) -> None:
        def record(status: str) -> None:
            stack.record_event(before.logical_id, before.kind, status, physical_id=before.physical.id)

        stack = self._stack
        record("UPDATE_IN_PROGRESS")
        before.physical = before.handler.update(
            self._services, before.physical, properties, before.properties
        )
        stack.deployed[before.logical_id] = before
        record("UPDATE_COMPLETE")

    def _roll_back(self, verb: str, reason: str) -> None:
        stack = self._stack
        prefix = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        stack.set_status(f"{prefix}_IN_PROGRESS", reason)
        while stack.journal:
            try:
                stack.journal.pop()()
            except Exception as error:
                stack.set_status(f"{prefix}_FAILED", _reason(error))
                return
        if verb == "UPDATE":
            stack.set_status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        stack.set_status(f"{prefix}_COMPLETE")

    def _delete(self, resource: StackResource, *, retain: bool) -> bool:
        """Delete a resource, or retain it; False if that failed."""

        def record(status: str, reason: str = "") -> None:
            self._stack.record_event(resource.logical_id, resource.kind, status, reason, resource.physical.id)

        if retain:
            record("DELETE_SKIPPED")
            return True
        record("DELETE_IN_PROGRESS")
        try:
            resource.handler.delete(self._services, resource.physical, resource.properties)
        except Exception as error:
            if not _is_not_found(error):
                record("DELETE_FAILED", _reason(error))
                return False
        record("DELETE_COMPLETE")
        return True


def _deletion_order(deployed: Collection[StackResource]) -> list[StackResource]:
    """List resources, each before those that it depends on."""
    graph = {
        resource: [
            other for other in deployed if other.logical_id in resource.dependencies and other is not resource
        ]
        for resource in deployed
    }
    return list(graphlib.TopologicalSorter(graph).static_order())[::-1]


def _outputs(resolver: Resolver) -> list[dict[str, Any]]:
    outputs = []
    for key, output in resolver.template.get("Outputs", {}).items():
        if "Condition" in output and not resolver.condition(output["Condition"]):
            continue
        export = output.get("Export", {}).get("Name")
        outputs.append(
            {
                "OutputKey": key,
                "OutputValue": str(resolver.resolve(output["Value"])),
                "Description": output.get("Description"),
                "ExportName": resolver.resolve(export) if export else None,
            }
        )
    return outputs


def _failed(verb: str, logical_id: str, reason: str) -> _FailedError:
    return _FailedError(f"The following resource(s) failed to {verb.lower()}: [{logical_id}]. {reason}")


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        fault = error.response["Error"]
        reason = f'Resource handler returned message: "{fault.get("Message")}" ({fault.get("Code")})'
        return reason[:_REASON_LENGTH]
    if isinstance(error, KeyError):
        return f"the property or attribute {error} is missing"
    return str(error)[:_REASON_LENGTH]


def _is_not_found(error: Exception) -> bool:
    """Whether a deletion failed because the resource does not exist."""
    if not isinstance(error, ClientError):
        return False
    fault = error.response["Error"]
    text = f"{fault.get('Code')} {fault.get('Message')}"
    return any(phrase in text for phrase in ("NotFound", "NoSuch", "Could not find", "ResourceNotFound"))
