"""The handler of a resource type, and calls to its service."""

from __future__ import annotations

import abc
import secrets
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError

Properties = Mapping[str, Any]
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class PhysicalResource:
    """An existing resource.

    Attributes:
        id: The physical id, which Ref returns.
        attributes: The attributes that Fn::GetAtt returns.
    """

    id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Services:
    """The services of one account and region.

    Attributes:
        account: The account's number.
        region: The region's name.
        client: Returns a boto3 client of a service, which calls this cloud.
        undone: What a stack does when SageMaker has rolled an endpoint update back: ``accepted``, ``refused``
            or ``unnoticed``; see ``lifecycle.up``.
    """

    account: str
    region: str
    client: Callable[[str], Any]
    undone: str = "accepted"


class ResourceHandler(abc.ABC):
    """Creates, updates and deletes the resources of one type."""

    #: The property that has the resource's name; empty if the type has none.
    name_property = ""

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        """The resource's name: the template's, or a generated one."""
        name = properties.get(self.name_property) if self.name_property else None
        return str(name or _generate_name(stack, logical_id))

    @abc.abstractmethod
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        """Create a resource."""

    @abc.abstractmethod
    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        """Update a resource in place."""

    @abc.abstractmethod
    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        """Delete a resource."""


def _generate_name(stack: str, logical_id: str) -> str:
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return f"{stack}-{logical_id}"[:50].rstrip("-") + f"-{suffix}"


class CreatedButFailedError(Exception):
    """A resource that exists but does not work, so that a rollback must delete it."""

    def __init__(self, physical: PhysicalResource, reason: str) -> None:
        super().__init__(reason)
        self.physical = physical


def check_found(kind: str, name: str, names: Collection[str]) -> None:
    """Check that a resource that is to be updated exists: its service would create it anew, or ignore that.

    Args:
        kind: The kind of resource, for the error.
        name: The resource's name.
        names: The names that its service has found.

    Raises:
        AwsError: it does not exist.
    """
    if name not in names:
        raise AwsError("NotFound", f"The {kind} {name} was not found, so it cannot be updated.")


def call(client: Any, operation: str, properties: Properties) -> Any:
    """Call an operation with those properties that it takes, converted to its types.

    Args:
        client: A boto3 client.
        operation: The operation's name in the API, such as ``CreateRole``.
        properties: The properties of a resource.
    """
    shape = client.meta.service_model.operation_model(operation).input_shape
    request = {
        name: _convert(shape.members[name], value)
        for name, value in properties.items()
        if name in shape.members
    }
    methods = {api: method for method, api in client.meta.method_to_api_mapping.items()}
    return getattr(client, methods[operation])(**request)


def _convert(shape: Any, value: Any) -> Any:
    """Convert a value to the type of its botocore shape: templates may have numbers and booleans as text."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            name: _convert(shape.members[name], item) for name, item in value.items() if name in shape.members
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_convert(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {name: _convert(shape.value, item) for name, item in value.items()}
    if isinstance(value, str) and shape.type_name in ("integer", "long"):
        return int(value)
    if isinstance(value, str) and shape.type_name in ("float", "double"):
        return float(value)
    if isinstance(value, str) and shape.type_name == "boolean":
        return value.lower() == "true"
    return str(value) if shape.type_name == "string" and not isinstance(value, str) else value
