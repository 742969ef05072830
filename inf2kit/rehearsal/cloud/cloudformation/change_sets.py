"""Change sets: the changes that a desired stack would make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.cloudformation import exceptions, models, utils
from moto.cloudformation.models import ChangeSet
from moto.core.utils import utcnow

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.desired import DesiredStack, refused
from inf2kit.rehearsal.cloud.cloudformation.intrinsics import Resolver, Unknown
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack
from inf2kit.rehearsal.cloud.errors import AwsError

_NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)


class LiveChangeSet(ChangeSet):
    """A change set with the fields that moto's responses read."""

    def __init__(
        self,
        kind: str,
        stack: LiveStack,
        name: str,
        description: str,
        desired: DesiredStack,
        tags: Mapping[str, str],
        role_arn: str,
    ) -> None:
        # moto's constructor is not called: it parses the template itself.
        self.change_set_type, self.change_set_name, self.description = kind, name, description
        self.change_set_id = utils.generate_changeset_id(name, stack.region_name, stack.account_id)
        self.stack, self.stack_id, self.stack_name = stack, stack.stack_id, stack.name
        self.desired = desired
        self.template, self.parameters = desired.text, dict(desired.parameters)
        self.notification_arns, self.tags, self.role_arn = None, tags or None, role_arn or None
        self.creation_time = utcnow()
        self.changes = _list_changes(stack, desired)
        fault = desired.unsupported_types() or desired.broken_rule()
        if not fault and kind == "UPDATE" and not self.changes and is_unchanged(stack, desired, tags):
            fault = _NO_CHANGES
        self.status = "FAILED" if fault else "CREATE_COMPLETE"
        self.execution_status = "UNAVAILABLE" if fault else "AVAILABLE"
        self.status_reason = fault or None

    @property
    def is_done(self) -> bool:
        """Whether it was executed, with or without success."""
        is_settled = not self.stack.is_busy and self.execution_status == "EXECUTE_IN_PROGRESS"
        return is_settled or self.execution_status in ("EXECUTE_COMPLETE", "EXECUTE_FAILED")

    def check_executable(self) -> None:
        """Check that it can be executed.

        Raises:
            CloudFormationError: it failed, is being executed, or was.
        """
        if self.status != "CREATE_COMPLETE":
            raise self._invalid("executed", f"status of [{self.status}]")
        if self.execution_status != "AVAILABLE":
            raise self._invalid("executed", f"execution status of [{self.execution_status}]")

    def check_deletable(self) -> None:
        """Check that it can be deleted.

        Raises:
            CloudFormationError: it is being executed.
        """
        if self.execution_status == "EXECUTE_IN_PROGRESS" and not self.is_done:
            raise self._invalid("deleted", f"execution status of [{self.execution_status}]")

    def _invalid(self, verb: str, status: str) -> exceptions.CloudFormationError:
        error = exceptions.CloudFormationError(
            f"ChangeSet [{self.change_set_id}] cannot be {verb} in its current {status}"
        )
        error.code = "InvalidChangeSetStatus"
        return error


def is_unchanged(stack: LiveStack, desired: DesiredStack, tags: Mapping[str, str]) -> bool:
    """Whether a stack already has the desired template, parameters and tags; no tags keep those it has."""
    if not stack.version.template:
        return False
    return (
        template.parse(stack.version.template) == desired.template
        and dict(stack.version.parameters) == dict(desired.parameters)
        and (not tags or dict(tags) == stack.tags)
        and stack.status.endswith("COMPLETE")
    )


def _list_changes(stack: LiveStack, desired: DesiredStack) -> list[Any]:
    """List the changes; a reference to a replaced resource is a change too, since its value is unknown."""
    names = {**desired.names, "AWS::StackName": stack.name, "AWS::StackId": stack.stack_id}
    replaced: set[str] = set()

    def look_up(logical_id: str, attribute: str | None) -> Any:
        if logical_id in replaced or logical_id not in stack.deployed:
            return Unknown(f"known after {logical_id}")
        physical = stack.deployed[logical_id].physical
        return physical.id if attribute is None else physical.attributes.get(attribute)

    resolver = Resolver(desired.template, names, look_up, desired.exports)
    changes = []
    try:
        active = resolver.active_resources()
        for logical_id in template.creation_order(active):
            kind, before = str(active[logical_id]["Type"]), stack.deployed.get(logical_id)
            properties = resolver.resolve(active[logical_id].get("Properties", {}))
            if before is None:
                changes.append(_change("Add", logical_id, kind))
            elif before.properties != properties or before.kind != kind:
                is_replaced = before.kind != kind or resources.replaces(kind, before.properties, properties)
                if is_replaced:
                    replaced.add(logical_id)
                change = _change("Modify", logical_id, kind, before.physical.id)
                change.replacement = "True" if is_replaced else "False"
                changes.append(change)
    except AwsError as error:
        raise refused(error.message) from None
    for logical_id, resource in stack.deployed.items():
        if logical_id not in active:
            changes.append(_change("Remove", logical_id, resource.kind, resource.physical.id))
    return changes


def _change(action: str, logical_id: str, kind: str, physical_id: str | None = None) -> Any:
    change: Any = models.Change(action, logical_id, kind)
    change.physical_resource_id = physical_id
    return change
