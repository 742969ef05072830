"""Intrinsic functions and conditions: computing the values of a template."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError

#: The variables of Fn::Sub; ``${!Literal}`` is none.
SUB_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
#: The value of AWS::NoValue, which removes a property.
_NO_VALUE = object()


class Unknown(str):
    """A value that only the deployment will know, or one computed from it."""


def invalid_template(message: str) -> AwsError:
    """CloudFormation's error for a template that cannot be resolved."""
    return AwsError("ValidationError", f"Template format error: {message}")


@dataclass
class Resolver:
    """Computes the values of one template.

    Attributes:
        template: The parsed template.
        names: The values of parameters and pseudo parameters.
        lookup: Returns the Ref of a resource (attribute None) or one of its attributes.
        exports: The exports of all stacks.
    """

    template: Mapping[str, Any]
    names: Mapping[str, Any]
    lookup: Callable[[str, str | None], Any]
    exports: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
            "Fn::ImportValue": self._import_value,
            "Fn::Base64": lambda text: base64.b64encode(str(self.resolve(text)).encode()).decode(),
            "Fn::GetAZs": self._get_azs,
            "Fn::ToJsonString": lambda value: json.dumps(self.resolve(value)),
        }

    def resolve(self, value: Any) -> Any:
        """Compute every function within a value; AWS::NoValue becomes None.

        Raises:
            AwsError: the value names something that does not exist, or a function that is not simulated.
        """
        resolved = self._resolve(value)
        return None if resolved is _NO_VALUE else resolved

    def condition(self, name: str) -> bool:
        """Whether a condition of the template holds."""
        conditions = self.template.get("Conditions", {})
        if name not in conditions:
            raise invalid_template(f"condition {name} is not defined")
        return self.holds(conditions[name])

    def holds(self, expression: Any) -> bool:
        """Whether a condition's expression holds."""
        if not isinstance(expression, Mapping) or len(expression) != 1:
            return bool(self.resolve(expression))
        ((function, operand),) = expression.items()
        if function == "Condition":
            return self.condition(operand)
        if function == "Fn::Equals":
            return str(self.resolve(operand[0])) == str(self.resolve(operand[1]))
        if function == "Fn::Not":
            return not self.holds(operand[0])
        if function == "Fn::And":
            return all(self.holds(condition) for condition in operand)
        if function == "Fn::Or":
            return any(self.holds(condition) for condition in operand)
        if function == "Fn::Contains":
            return self.resolve(operand[1]) in self.resolve(operand[0])
        return bool(self.resolve(expression))

    def active_resources(self) -> dict[str, Mapping[str, Any]]:
        """The resources whose conditions hold, by logical id."""
        resources: Mapping[str, Mapping[str, Any]] = self.template.get("Resources", {})
        return {
            logical_id: resource
            for logical_id, resource in resources.items()
            if "Condition" not in resource or self.condition(resource["Condition"])
        }

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if len(value) == 1:
                ((function, operand),) = value.items()
                if function in self._functions:
                    return self._functions[function](operand)
                if function.startswith("Fn::"):
                    raise invalid_template(f"the function {function} is not known in this rehearsal")
            resolved = {key: self._resolve(item) for key, item in value.items()}
            return {key: item for key, item in resolved.items() if item is not _NO_VALUE}
        if isinstance(value, list):
            return [item for item in map(self._resolve, value) if item is not _NO_VALUE]
        return value

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self.names:
            return self.names[name]
        return self._look_up(name, None)

    def _get_att(self, operand: Any) -> Any:
        if isinstance(operand, str):
            logical_id, attribute = operand.split(".", 1)
        else:
            logical_id, attribute = operand[0], self.resolve(operand[1])
        return self._look_up(logical_id, attribute)

    def _look_up(self, logical_id: str, attribute: str | None) -> Any:
        if logical_id not in self.template.get("Resources", {}):
            raise invalid_template(f"unresolved resource dependencies [{logical_id}]")
        return self.lookup(logical_id, attribute)

    def _sub(self, operand: Any) -> str:
        text, variables = (operand, {}) if isinstance(operand, str) else (operand[0], operand[1])

        def replace(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name in variables:
                return str(self.resolve(variables[name]))
            if "." in name:
                return str(self._get_att(name))
            return str(self._ref(name))

        return SUB_VARIABLE.sub(replace, text).replace("${!", "${")

    def _join(self, operand: Any) -> str:
        delimiter, items = operand
        return str(delimiter).join(str(item) for item in self.resolve(items))

    def _split(self, operand: Any) -> Any:
        text = self.resolve(operand[1])
        return text if isinstance(text, Unknown) else str(text).split(operand[0])

    def _select(self, operand: Any) -> Any:
        index, items = int(self.resolve(operand[0])), self.resolve(operand[1])
        if isinstance(items, Unknown):
            return items
        if not isinstance(items, list) or index >= len(items):
            raise invalid_template(f"Fn::Select cannot select nonexistent value at index {index}")
        return items[index]

    def _if(self, operand: Any) -> Any:
        condition, then, otherwise = operand
        return self._resolve(then if self.condition(condition) else otherwise)

    def _find_in_map(self, operand: Any) -> Any:
        value: Any = self.template.get("Mappings", {})
        keys = [self.resolve(key) for key in operand[:3]]
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                raise invalid_template(f"unable to get mapping for {'::'.join(map(str, keys))}")
            value = value[key]
        return value

    def _import_value(self, operand: Any) -> str:
        name = str(self.resolve(operand))
        if name not in self.exports:
            raise AwsError("ValidationError", f"No export named {name} found.")
        return self.exports[name]

    def _get_azs(self, operand: Any) -> list[str]:
        region = self.resolve(operand) or self.names["AWS::Region"]
        return [f"{region}{zone}" for zone in "abc"]
