"""Deployments: create, update or delete the resources of a stack, and roll back a failure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.deletion import (
    REASON_LENGTH,
    delete_all,
    delete_resource,
    deletion_order,
    reason_of,
)
from inf2kit.rehearsal.cloud.cloudformation.desired import DesiredStack, unsupported
from inf2kit.rehearsal.cloud.cloudformation.intrinsics import Resolver
from inf2kit.rehearsal.cloud.cloudformation.resources import (
    CreatedButFailedError,
    PhysicalResource,
    Services,
)
from inf2kit.rehearsal.cloud.cloudformation.stack import (
    LiveStack,
    Policies,
    StackResource,
    UndoStep,
    Version,
)
from inf2kit.rehearsal.cloud.errors import AwsError

_REPLACES = "Requested update requires the creation of a new physical resource"


class _FailedError(Exception):
    """A resource that could not be created or updated; the message is the reason."""


class Deployment:
    """One change of one stack; the caller runs it on a thread of its own.

    Args:
        stack: The stack to change.
        services: The services that create the resources.
        exporter: Returns the id of the stack that has exported a name; empty if none has.
    """

    def __init__(self, stack: LiveStack, services: Services, exporter: Callable[[str], str]) -> None:
        self._stack, self._services, self._exporter = stack, services, exporter

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
                self._deploy(logical_id, active[logical_id], resolver, rollback=desired.rollback)
            outputs = _outputs(resolver)
            self._check_exports(outputs)
        except (_FailedError, AwsError) as error:
            reason = str(error)[:REASON_LENGTH]
            if desired.rollback:
                self.roll_back(reason)
            else:
                self._stack.set_status(f"{verb}_FAILED", reason)
            return
        self._finish(desired, verb, active, outputs)

    def delete(self, retained: Collection[str] = (), *, force: bool = False) -> None:
        """Delete all resources that are not retained.

        Args:
            retained: The logical ids of resources that are left behind.
            force: Leave behind what cannot be deleted.
        """
        survivors = {
            name
            for name, resource in self._stack.deployed.items()
            if resource.policies.retain or name in retained
        }
        failed = delete_all(self._stack, self._services, survivors)
        if failed and not force:
            self._stack.set_status("DELETE_FAILED", _failed("delete", *failed))
            return
        self._stack.deployed.clear()
        self._stack.set_status("DELETE_COMPLETE")

    def roll_back(self, reason: str, skipped: Collection[str] = (), *, force: bool = False) -> None:
        """Undo what was done since the last success, or go on with that.

        Args:
            reason: Why.
            skipped: The logical ids of resources that an update's rollback leaves as they are.
            force: Whether it leaves as it is what cannot be restored, too.
        """
        if self._stack.version.template:
            self._roll_back_update(reason, skipped, force=force)
        else:
            self._roll_back_creation(reason)

    def _roll_back_creation(self, reason: str) -> None:
        stack = self._stack
        stack.set_status("ROLLBACK_IN_PROGRESS", reason)
        stack.journal.clear()
        survivors = {
            name for name, resource in stack.deployed.items() if resource.policies.retain_on_rollback
        }
        failed = delete_all(self._stack, self._services, survivors)
        if failed:
            stack.set_status("ROLLBACK_FAILED", _failed("delete", *failed))
        else:
            stack.set_status("ROLLBACK_COMPLETE")

    def _roll_back_update(self, reason: str, skipped: Collection[str], *, force: bool) -> None:
        stack = self._stack
        stack.set_status("UPDATE_ROLLBACK_IN_PROGRESS", reason)
        stack.unrestored.clear()
        while stack.journal:
            step = stack.journal[-1]
            try:
                if step.logical_id not in skipped:
                    step.undo()
            except Exception as error:
                if force:
                    stack.journal.pop()
                    continue
                stack.unrestored.add(step.logical_id)
                fault = _failed("update", step.logical_id, reason=reason_of(error))
                stack.set_status("UPDATE_ROLLBACK_FAILED", fault[:REASON_LENGTH])
                return
            # Kept until it is done, for a rollback that is continued.
            stack.journal.pop()
        stack.set_status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        stack.set_status("UPDATE_ROLLBACK_COMPLETE")

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
        for resource in deletion_order([*replaced, *removed]):
            policies = resource.policies
            delete_resource(
                self._stack,
                self._services,
                resource,
                retain=policies.retain_replaced if resource in replaced else policies.retain,
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

    def _check_exports(self, outputs: list[dict[str, Any]]) -> None:
        for name in filter(None, (output["ExportName"] for output in outputs)):
            exporter = self._exporter(name)
            if exporter not in ("", self._stack.stack_id):
                other = exporter.split("/")[1]
                raise AwsError(
                    "ValidationError", f"Export with name {name} is already exported by stack {other}."
                )

    def _deploy(
        self, logical_id: str, definition: Mapping[str, Any], resolver: Resolver, *, rollback: bool
    ) -> None:
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
            delete_resource(self._stack, self._services, before, retain=False)
            del stack.deployed[logical_id]
            before = None
        if before and before.kind == kind and before.properties == properties:
            before.policies, before.dependencies = policies, dependencies
            return
        is_replaced = before is not None and (
            before.kind != kind or resources.replaces(kind, before.properties, properties)
        )

        def put() -> PhysicalResource:
            if is_replaced and not rollback:
                raise _FailedError("Replacement type updates not supported on stack with disable-rollback.")
            if before and not is_replaced:
                # Recorded before the attempt: an update that fails half-way must be undone too.
                stack.journal.append(UndoStep(logical_id, lambda: self._undo_update(before, properties)))
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
            reason = reason_of(error)
            stack.record_event(logical_id, kind, f"{verb}_FAILED", reason)
            raise _FailedError(_failed(verb, logical_id, reason=reason)) from None
        resource = StackResource(logical_id, kind, handler, physical, properties, dependencies)
        stack.deployed[logical_id] = resource
        if failure or not before or is_replaced:
            stack.journal.append(UndoStep(logical_id, lambda: self._undo_create(logical_id, before)))
        if failure:
            resource.failed = True
            reason = f'Resource handler returned message: "{failure}" (HandlerErrorCode: NotStabilized)'
            stack.record_event(logical_id, kind, f"{verb}_FAILED", reason[:REASON_LENGTH], physical.id)
            raise _FailedError(_failed(verb, logical_id, reason=failure))
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
            # What cannot be deleted is left behind: it does not fail the rollback of an update.
            delete_resource(
                self._stack,
                self._services,
                resource,
                retain=resource.policies.retain_on_rollback and not before,
            )

    def _undo_update(self, before: StackResource, properties: Mapping[str, Any]) -> None:
        def record(status: str, reason: str = "") -> None:
            stack.record_event(before.logical_id, before.kind, status, reason, before.physical.id)

        stack = self._stack
        record("UPDATE_IN_PROGRESS")
        try:
            before.physical = before.handler.update(
                self._services, before.physical, properties, before.properties
            )
        except Exception as error:
            record("UPDATE_FAILED", reason_of(error))
            raise
        stack.deployed[before.logical_id] = before
        record("UPDATE_COMPLETE")


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


def _failed(verb: str, *logical_ids: str, reason: str = "") -> str:
    sentence = f"The following resource(s) failed to {verb.lower()}: [{', '.join(logical_ids)}]."
    return f"{sentence} {reason}".rstrip()
