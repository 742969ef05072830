"""One stack: what it has made, and what happened to it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.cloudformation.models import Event, Stack

from inf2kit.rehearsal.cloud.cloudformation.resources import Made

#: Nothing changes a stack in one of these.
_IDLE = ("_COMPLETE", "_FAILED", "REVIEW_IN_PROGRESS", "CREATE_PENDING")


@dataclass
class Deployed:
    """A resource of a stack.

    Attributes:
        logical_id: Its name in the template.
        kind: Its type.
        made: What exists.
        properties: What it was made with, every function computed.
        retained: Whether it stays when the stack does not want it any more (DeletionPolicy).
        needs: The logical ids that it refers to.
        failed: Whether it exists, but does not work.
        replacement_retained: Whether it stays when another one takes its place (UpdateReplacePolicy).
        retained_on_rollback: Whether it stays when its creation is undone.
    """

    logical_id: str
    kind: str
    made: Made
    properties: Mapping[str, Any]
    retained: bool = False
    needs: frozenset[str] = frozenset()
    failed: bool = False
    replacement_retained: bool = False
    retained_on_rollback: bool = False

    # As moto's answers ask for them.
    @property
    def logical_resource_id(self) -> str:
        """The logical id."""
        return self.logical_id

    @property
    def physical_resource_id(self) -> str:
        """What Ref gives."""
        return self.made.physical_id

    @property
    def cf_resource_type(self) -> str:
        """The type."""
        return self.kind


@dataclass
class Version:
    """What a stack was told the last time that it worked.

    Attributes:
        template: The text.
        parameters: As given.
        resolved: As templates see them.
        outputs: Key, value, description and export name of each.
    """

    template: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)


class LiveStack(Stack):
    """A stack as moto's answers want it, with our own content."""

    def __init__(self, stack_id: str, name: str, account_id: str, region_name: str) -> None:
        super().__init__(stack_id, name, {}, {}, account_id, region_name)
        self.deployed: dict[str, Deployed] = {}
        self.version = Version()
        self.status_reason = ""
        #: What undoes the steps since the last success, and what is to be deleted at the next one.
        self.journal: list[Callable[[], None]] = []
        self.leftovers: list[Deployed] = []
        self.lock = threading.Lock()
        #: A deletion ends a creation that is under way.
        self.cancelled = threading.Event()
        self.worker: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something changes it now."""
        return not self.status.endswith(_IDLE)

    @property
    def stack_status_reason(self) -> str:
        """Why the stack is in this state."""
        return self.status_reason

    @property
    def stack_resources(self) -> Any:
        """The resources that exist."""
        return list(self.deployed.values())

    @property
    def outputs(self) -> Any:
        """As DescribeStacks gives them."""
        return self.version.outputs or None

    @property
    def parameter_list(self) -> Any:
        """As DescribeStacks gives them."""
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
        """As they were given."""
        return dict(self.version.parameters)

    @property
    def exports(self) -> Any:
        """Exports are kept by the backend."""
        return []

    def tell(self, status: str, reason: str = "") -> None:
        """A change of the stack's own state."""
        # What is being deleted stays that, whatever a creation that is ended still does.
        if status.startswith("DELETE") or not self.cancelled.is_set():
            self.status, self.status_reason = status, reason
        self._event(self.name, self.stack_id, "AWS::CloudFormation::Stack", status, reason)

    def tell_of(
        self, logical_id: str, kind: str, status: str, reason: str = "", physical_id: str = ""
    ) -> None:
        """A change of a resource."""
        self._event(logical_id, physical_id, kind, status, reason)

    def _event(self, logical_id: str, physical_id: str, kind: str, status: str, reason: str) -> None:
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
