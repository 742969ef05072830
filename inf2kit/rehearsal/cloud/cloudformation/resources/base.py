"""What a resource type is, and calling its service."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Properties = Mapping[str, Any]
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Made:
    """A resource that exists.

    Attributes:
        physical_id: What Ref gives.
        attributes: What Fn::GetAtt gives.
    """

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Here:
    """Where resources are made.

    Attributes:
        account: The account's number.
        region: The region's name.
        client: A boto3 client of a service, which talks to this cloud.
        undone: What becomes of an update that SageMaker has undone: ``accepted``, ``refused``, ``unnoticed``.
    """

    account: str
    region: str
    client: Callable[[str], Any]
    undone: str = "accepted"


class Type:
    """How resources of one type are made. Subclasses override what their service needs."""

    #: The property that names it; without one CloudFormation makes a name.
    name_property = ""

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        """The resource's name: the template's, or one of CloudFormation's own making."""
        given = properties.get(self.name_property) if self.name_property else None
        return str(given or generated(stack, logical_id))

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        """Make it."""
        raise NotImplementedError

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        """Change it where it is; most services take the whole of it again."""
        raise NotImplementedError

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """Delete it."""
        raise NotImplementedError


def generated(stack: str, logical_id: str) -> str:
    """A name that nothing else has."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return f"{stack}-{logical_id}"[:50].rstrip("-") + f"-{suffix}"


class CreatedButFailedError(Exception):
    """A resource that exists and does not work: it must be deleted, and the stack told why."""

    def __init__(self, made: Made, reason: str) -> None:
        super().__init__(reason)
        self.made = made


def call(client: Any, operation: str, properties: Properties) -> Any:
    """An operation with those properties that it has, of the types that it takes."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    request = {
        name: _typed(shape.members[name], value)
        for name, value in properties.items()
        if name in shape.members
    }
    method = next(name for name, each in client.meta.method_to_api_mapping.items() if each == operation)
    return getattr(client, method)(**request)


def _typed(shape: Any, value: Any) -> Any:
    """Templates may have numbers and truth values as text."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            name: _typed(shape.members[name], each) for name, each in value.items() if name in shape.members
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_typed(shape.member, each) for each in value]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {name: _typed(shape.value, each) for name, each in value.items()}
    if isinstance(value, str) and shape.type_name in ("integer", "long"):
        return int(value)
    if isinstance(value, str) and shape.type_name in ("float", "double"):
        return float(value)
    if isinstance(value, str) and shape.type_name == "boolean":
        return value.lower() == "true"
    return str(value) if shape.type_name == "string" and not isinstance(value, str) else value
