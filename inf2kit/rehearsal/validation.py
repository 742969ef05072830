"""Validation of requests against botocore's model of a service.

botocore checks types and required members before it sends a request. Lengths, patterns and allowed values are
left to the service, so they are checked here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from inf2kit import aws

#: Java's character classes in patterns, as Python writes them.
_JAVA = {r"\p{ASCII}": r"[\x00-\x7f]", r"[\p{Print}]": r"[\x20-\x7e]", r"\z": r"\Z"}


def find_faults(service: str, operation: str, request: Mapping[str, Any]) -> str:
    """Return a sentence that names every value that is not allowed, as AWS does; empty if all are.

    Args:
        service: botocore's name of the service, such as ``sagemaker``.
        operation: Such as ``CreateModel``.
        request: The request's members.
    """
    return _sentence(list(_faults(_shape(service, operation), dict(request), "")))


def find_header_faults(service: str, operation: str, headers: Mapping[str, str]) -> str:
    """Like ``find_faults``, for those members of a request that are headers.

    Args:
        service: botocore's name of the service, such as ``sagemaker-runtime``.
        operation: Such as ``InvokeEndpoint``.
        headers: The request's headers, with names in lower case.
    """
    faults: list[str] = []
    for header, name in header_names(service, operation).items():
        value, shape = headers.get(header), _shape(service, operation).members[name]
        if value is None:
            continue
        path = _member("", name)
        if shape.type_name != "integer":
            faults += _faults(shape, value, path)
        elif re.fullmatch(r"-?\d{1,18}", value):
            faults += _faults(shape, int(value), path)
        else:
            faults.append(_fault(shape, value, path, "be an integer"))
    return _sentence(faults)


@functools.cache
def header_names(service: str, operation: str) -> dict[str, str]:
    """The headers of a request, in lower case, with the names of their members."""
    return {
        str(shape.serialization["name"]).lower(): name
        for name, shape in _shape(service, operation).members.items()
        if shape.serialization.get("location") == "header"
    }


@functools.cache
def _shape(service: str, operation: str) -> Any:
    return aws.service_model(service).operation_model(operation).input_shape


def _sentence(faults: list[str]) -> str:
    if not faults:
        return ""
    noun = "error" if len(faults) == 1 else "errors"
    return f"{len(faults)} validation {noun} detected: {'; '.join(faults)}"


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
            yield _fault(shape, value, path, f"have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _fault(shape, value, path, f"have value less than or equal to {high}")


def _structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _fault(shape, value, path, "be an object")
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _fault(shape, "null", _member(path, name), "not be null")
    for name, item in value.items():
        if name in shape.members and item is not None:
            yield from _faults(shape.members[name], item, _member(path, name))


def _text(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _fault(shape, value, path, "be a string")
        return
    if shape.enum and value not in shape.enum:
        yield _fault(shape, value, path, f"satisfy enum value set: [{', '.join(shape.enum)}]")
    yield from _length(shape, value, path)
    pattern = shape.metadata.get("pattern") or ""
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    if pattern and r"\p{" not in pattern and not re.fullmatch(pattern, value):
        yield _fault(shape, value, path, f"satisfy regular expression pattern: {pattern}")


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    # SageMaker limits strings, such as those of the environment, in bytes.
    length = len(value.encode()) if isinstance(value, str) else len(value)
    if length < low:
        yield _fault(shape, value, path, f"have length greater than or equal to {low}")
    if high is not None and length > high:
        yield _fault(shape, value, path, f"have length less than or equal to {high}")


def _member(path: str, name: str) -> str:
    lower = name[0].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _fault(shape: Any, value: Any, path: str, rule: str) -> str:
    # AWS does not repeat a value that may be secret.
    shown = "" if shape.metadata.get("sensitive") else f" '{str(value)[:100]}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: Member must {rule}"
