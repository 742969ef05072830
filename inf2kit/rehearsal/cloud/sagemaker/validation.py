"""Validation of requests against botocore's model of SageMaker.

botocore checks types and required members before it sends a request. Lengths, patterns and allowed values are
left to the service, so they are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from inf2kit import aws
from inf2kit.rehearsal.cloud.errors import AwsError


def check(operation: str, request: dict[str, Any]) -> None:
    """Check a request's values.

    Raises:
        AwsError: it names every value that is not allowed, as SageMaker does.
    """
    faults = list(_faults(aws.service_model("sagemaker").operation_model(operation).input_shape, request, ""))
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
        for index, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{path}.{index}.member")
    elif shape.type_name == "map":
        yield from _length(shape, value, path)
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{path}.{key}.key")
            yield from _faults(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _text(shape, value, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if low is not None and value < low:
            yield _fault(value, path, f"have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _fault(value, path, f"have value less than or equal to {high}")


def _structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _fault(value, path, "be an object")
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _fault("null", _member(path, name), "not be null")
    for name, item in value.items():
        if name in shape.members and item is not None:
            yield from _faults(shape.members[name], item, _member(path, name))


def _text(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _fault(value, path, "be a string")
        return
    if shape.enum and value not in shape.enum:
        yield _fault(value, path, f"satisfy enum value set: [{', '.join(shape.enum)}]")
    yield from _length(shape, value, path)
    pattern = shape.metadata.get("pattern")
    if pattern and r"\p{" not in pattern and not re.search(rf"^(?:{pattern})$", value):
        yield _fault(value, path, f"satisfy regular expression pattern: {pattern}")


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    # SageMaker limits strings, such as those of the environment, in bytes.
    length = len(value.encode()) if isinstance(value, str) else len(value)
    if length < low:
        yield _fault(value, path, f"have length greater than or equal to {low}")
    if high is not None and length > high:
        yield _fault(value, path, f"have length less than or equal to {high}")


def _member(path: str, name: str) -> str:
    lower = name[0].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _fault(value: Any, path: str, rule: str) -> str:
    return f"Value '{str(value)[:100]}' at '{path}' failed to satisfy constraint: Member must {rule}"
