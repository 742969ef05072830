"""One stack: its resources, its state and its events."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.cloudformation.models import Event, Stack

from inf2kit.rehearsal.cloud.cloudformation.resources import PhysicalResource, ResourceHandler

#: In these states nothing changes a stack.
_IDLE = ("_COMPLETE", "_FAILED", "REVIEW_IN_PROGRESS", "CREATE_PENDING")


@dataclass(frozen=True)
class Policies:
    """When a resource is kept instead of deleted.

    Attributes:
        retain: When it is removed from its stack (DeletionPolicy).
        retain_on_rollback: When its creation is rolled back.
        retain_replaced: When another resource replaces it (UpdateReplacePolicy).
    """

    retain: bool = False
    retain_on_rollback: bool = False
    retain_replaced: bool = False

    @classmethod
    def from_template(cls, resource: Mapping[str, Any]) -> Policies:
        """Read the policies of a template's resource."""
        deletion = str(resource.get("DeletionPolicy", "Delete"))
        # RetainExceptOnCreate deletes a resource whose creation is rolled back.
        return cls(
            retain=deletion.startswith("Retain"),
            retain_on_rollback=deletion == "Retain",
            retain_replaced=resource.get("UpdateReplacePolicy", "Delete") == "Retain",
        )


@dataclass(eq=False)
class StackResource:
    """A resource of a stack.

    Attributes:
        logical_id: Its name in the template.
        kind: Its resource type.
        handler: The handler of its type.
        physical: The existing resource.
        properties: Its properties, with every function computed.
        dependencies: The logical ids that it refers to.
        policies: When it is kept.
        failed: Whether it exists but does not work.
    """

    logical_id: str
    kind: str
    handler: ResourceHandler
    physical: PhysicalResource
    properties: Mapping[str, Any]
    dependencies: frozenset[str] = frozenset()
    policies: Policies = Policies()
    failed: bool = False

    # The names that moto's responses read.
    @property
    def logical_resource_id(self) -> str:
        """The logical id."""
        return self.logical_id

    @property
    def physical_resource_id(self) -> str:
        """The physical id, which Ref returns."""
        return self.physical.id

    @property
    def cf_resource_type(self) -> str:
        """The resource type."""
        return self.kind


@dataclass(frozen=True)
class UndoStep:
    """What undoes one step of a deployment.

    Attributes:
        logical_id: The resource of the step.
        undo: Undoes it; called again if it failed and the rollback is continued.
    """

    logical_id: str
    undo: Callable[[], None]


@dataclass
class Version:
    """The template and parameters of the last successful deployment, and its outputs.

    Attributes:
        template: The template's text; empty before the first success.
        parameters: The parameters as text.
        resolved: The values of the parameters.
        outputs: Key, value, description and export name of each output.
    """

    template: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)


class LiveStack(Stack):
    """A stack with the fields that moto's responses read."""

    def __init__(self, stack_id: str, name: str, account_id: str, region_name: str) -> None:
        super().__init__(stack_id, name, {}, {}, account_id, region_name)
        self.deployed: dict[str, StackResource] = {}
        self.version = Version()
        self.status_reason = ""
        #: The undo steps since the last success, and the replaced resources that the next success deletes.
        self.journal: list[UndoStep] = []
        self.replaced: list[StackResource] = []
        #: Resources that the last rollback could not restore.
        self.unrestored: set[str] = set()
        self.lock = threading.Lock()
        #: Set by a deletion, to end a creation that is in progress.
        self.cancelled = threading.Event()
        self.worker: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a change is in progress."""
        return not self.status.endswith(_IDLE)

    @property
    def stack_status_reason(self) -> str:
        """StackStatusReason."""
        return self.status_reason

    @property
    def stack_resources(self) -> Any:
        """The existing resources."""
        return list(self.deployed.values())

    @property
    def outputs(self) -> Any:
        """The outputs, as DescribeStacks lists them."""
        return self.version.outputs or None

    @property
    def parameter_list(self) -> Any:
        """The parameters, as DescribeStacks lists them."""
        return [
            {
                "ParameterKey": key,
                "ParameterValue": value,
                "ResolvedValue": str(self.version.resolved.get(key, value)),
            }
            for key, value in self.version.parameters.items()
        ]

    @property
    def stack_parameters(self) -> Any:
        """The parameters as text."""
        return dict(self.version.parameters)

    @property
    def exports(self) -> Any:
        """Empty: the backend keeps the exports."""
        return []

    def set_status(self, status: str, reason: str = "") -> None:
        """Change the stack's state and record the event."""
        # A stack that is being deleted stays so, whatever a cancelled creation still does.
        if status.startswith("DELETE") or not self.cancelled.is_set():
            self.status, self.status_reason = status, reason
        self.record_event(self.name, "AWS::CloudFormation::Stack", status, reason, self.stack_id)

    def record_event(
        self, logical_id: str, kind: str, status: str, reason: str = "", physical_id: str = ""
    ) -> None:
        """Record an event of a resource."""
        event = Event(
            stack_id=self.stack_id,
            stack_name=self.name,
            logical_resource_id=logical_id,
            physical_resource_id=physical_id,
            resource_type=kind,
            resource_status=status,
            resource_status_reason=reason or None,
            resource_properties=None,
        )
        event.event_id = uuid.uuid4()
        self.events.append(event)
