"""A template: its text, its parameters, and the order of its resources."""

from __future__ import annotations

import datetime as dt
import graphlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from inf2kit.rehearsal.cloud.cloudformation.intrinsics import SUB_VARIABLE
from inf2kit.rehearsal.cloud.errors import AwsError


def parse(text: str) -> Any:
    """Parse a template, JSON or YAML with the short forms of functions; dates stay text.

    Raises:
        ValueError: the text is neither, or a key of it is there twice.
    """
    try:
        return json.loads(text)
    except ValueError:
        return _parse_yaml(text)


def _parse_yaml(text: str) -> Any:
    from cfnlint.decode import decode_str

    body, errors = decode_str(text)
    if errors:
        raise ValueError("; ".join(error.message for error in errors))
    # cfn-lint's nodes become plain values.
    return json.loads(json.dumps(body, default=dt.date.isoformat))


def creation_order(resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the logical ids, each after those that it depends on.

    Raises:
        AwsError: the dependencies are circular.
    """
    graph = {
        logical_id: sorted(dependencies(resource) & resources.keys())
        for logical_id, resource in resources.items()
    }
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        cycle = ", ".join(error.args[1][1:])
        raise AwsError("ValidationError", f"Circular dependency between resources: [{cycle}]") from None


def dependencies(resource: Mapping[str, Any]) -> set[str]:
    """The names that a resource refers to: resources and parameters."""
    depends_on = resource.get("DependsOn", [])
    names = {depends_on} if isinstance(depends_on, str) else set(depends_on)
    return names | set(_references(resource.get("Properties", {})))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, operand in value.items():
            if key == "Ref":
                yield operand
            elif key == "Fn::GetAtt":
                yield operand.split(".")[0] if isinstance(operand, str) else operand[0]
            else:
                if key == "Fn::Sub":
                    text = operand if isinstance(operand, str) else operand[0]
                    yield from (name.split(".")[0].strip() for name in SUB_VARIABLE.findall(text))
                yield from _references(operand)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
