"""Requests against AWS's own description of them: botocore's model of the service.

botocore checks types and what is required before it sends; lengths, patterns and allowed values are left to
the service, and so they are checked here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError


@functools.cache
def service() -> Any:
    """botocore's model of SageMaker."""
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


def check(operation: str, request: dict[str, Any]) -> None:
    """Refuse what SageMaker would refuse.

    Raises:
        AwsError: naming every value that is not allowed, as SageMaker does.
    """
    faults = list(_faults(service().operation_model(operation).input_shape, request, ""))
    if faults:
        noun = "error" if len(faults) == 1 else "errors"
        raise AwsError(
            "ValidationException", f"{len(faults)} validation {noun} detected: {'; '.join(faults)}"
        )


def _faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        yield from _structure(shape, value, path)
    elif shape.type_name == "list":
        yield from _length(shape, value, path)
        for index, each in enumerate(value, 1):
            yield from _faults(shape.member, each, f"{path}.{index}.member")
    elif shape.type_name == "map":
        yield from _length(shape, value, path)
        for key, each in value.items():
            yield from _faults(shape.key, key, f"{path}.{key}.key")
            yield from _faults(shape.value, each, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _text(shape, value, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if low is not None and value < low:
            yield _failed(value, path, f"have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _failed(value, path, f"have value less than or equal to {high}")


def _structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _failed(value, path, "be an object")
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _failed("null", _member(path, name), "not be null")
    for name, each in value.items():
        if name in shape.members and each is not None:
            yield from _faults(shape.members[name], each, _member(path, name))


def _text(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _failed(value, path, "be a string")
        return
    if shape.enum and value not in shape.enum:
        yield _failed(value, path, f"satisfy enum value set: [{', '.join(shape.enum)}]")
    yield from _length(shape, value, path)
    pattern = shape.metadata.get("pattern")
    if pattern and r"\p{" not in pattern and not re.search(rf"^(?:{pattern})$", value):
        yield _failed(value, path, f"satisfy regular expression pattern: {pattern}")


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    # The environment's limit is told in bytes.
    length = len(value.encode()) if isinstance(value, str) else len(value)
    if length < low:
        yield _failed(value, path, f"have length greater than or equal to {low}")
    if high is not None and length > high:
        yield _failed(value, path, f"have length less than or equal to {high}")


def _member(path: str, name: str) -> str:
    lower = name[0].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _failed(value: Any, path: str, rule: str) -> str:
    shown = str(value)
    return f"Value '{shown[:100]}' at '{path}' failed to satisfy constraint: Member must {rule}"
