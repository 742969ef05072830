"""A template's values: conditions, references and the other intrinsic functions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from inf2kit.rehearsal.cloud.errors import AwsError

_SUB = re.compile(r"\$\{([^!}][^}]*)\}")
#: What stands for "this property is not there".
_NOTHING = object()


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", f"Template format error: {message}")


@dataclass
class Values:
    """What names in a template stand for.

    Attributes:
        template: The whole of it.
        names: Parameters and pseudo parameters.
        resource: The Ref of a resource, or an attribute of it; raises KeyError where it is not there yet.
        exports: Of all stacks.
    """

    template: Mapping[str, Any]
    names: Mapping[str, Any]
    resource: Callable[[str, str | None], Any]
    exports: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": lambda given: given[0].join(str(each) for each in self.of(given[1])),
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::If": lambda given: self._raw(given[1 if self.condition(given[0]) else 2]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::ImportValue": self._import,
            "Fn::Base64": lambda given: base64.b64encode(str(self.of(given)).encode()).decode(),
            "Fn::GetAZs": lambda given: [
                f"{self.of(given) or self.names['AWS::Region']}{az}" for az in "abc"
            ],
            "Fn::ToJsonString": lambda given: json.dumps(self.of(given)),
        }

    def of(self, value: Any) -> Any:
        """A value with every function computed.

        Raises:
            AwsError: it names what is not there, or a function that is not known.
        """
        found = self._raw(value)
        return None if found is _NOTHING else found

    def condition(self, name: str) -> bool:
        """Whether a condition of the template holds."""
        conditions = self.template.get("Conditions", {})
        if name not in conditions:
            raise _invalid(f"condition {name} is not defined")
        return self.holds(conditions[name])

    def holds(self, test: Any) -> bool:
        """Whether a condition's expression holds."""
        if not isinstance(test, Mapping) or len(test) != 1:
            return bool(self.of(test))
        ((function, given),) = test.items()
        if function == "Condition":
            return self.condition(given)
        if function == "Fn::Equals":
            return str(self.of(given[0])) == str(self.of(given[1]))
        if function == "Fn::Not":
            return not self.holds(given[0])
        if function == "Fn::And":
            return all(self.holds(each) for each in given)
        if function == "Fn::Or":
            return any(self.holds(each) for each in given)
        if function == "Fn::Contains":
            return self.of(given[1]) in self.of(given[0])
        return bool(self.of(test))

    def _raw(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if len(value) == 1:
                ((function, given),) = value.items()
                if function in self._functions:
                    return self._functions[function](given)
                if function.startswith("Fn::"):
                    raise _invalid(f"the function {function} is not known in this rehearsal")
            found = {key: self._raw(each) for key, each in value.items()}
            return {key: each for key, each in found.items() if each is not _NOTHING}
        if isinstance(value, list):
            return [each for each in map(self._raw, value) if each is not _NOTHING]
        return value

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in self.names:
            return self.names[name]
        return self._of_resource(name, None)

    def _get_att(self, given: Any) -> Any:
        name, attribute = given.split(".", 1) if isinstance(given, str) else (given[0], self.of(given[1]))
        return self._of_resource(name, attribute)

    def _of_resource(self, name: str, attribute: str | None) -> Any:
        if name not in self.template.get("Resources", {}):
            raise _invalid(f"unresolved resource dependencies [{name}]")
        return self.resource(name, attribute)

    def _sub(self, given: Any) -> str:
        text, own = (given, {}) if isinstance(given, str) else (given[0], given[1])

        def replaced(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name in own:
                return str(self.of(own[name]))
            if "." in name:
                return str(self._get_att(name))
            return str(self._ref(name))

        return _SUB.sub(replaced, text).replace("${!", "${")

    def _split(self, given: Any) -> Any:
        text = self.of(given[1])
        return text if isinstance(text, Unknown) else str(text).split(given[0])

    def _select(self, given: Any) -> Any:
        index, found = int(self.of(given[0])), self.of(given[1])
        if isinstance(found, Unknown):
            return found
        if not isinstance(found, list) or index >= len(found):
            raise _invalid(f"Fn::Select cannot select nonexistent value at index {index}")
        return found[index]

    def _find_in_map(self, given: Any) -> Any:
        found: Any = self.template.get("Mappings", {})
        keys = [self.of(each) for each in given[:3]]
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                raise _invalid(f"unable to get mapping for {'::'.join(map(str, keys))}")
            found = found[key]
        return found

    def _import(self, given: Any) -> str:
        name = str(self.of(given))
        if name not in self.exports:
            raise AwsError("ValidationError", f"No export named {name} found.")
        return self.exports[name]


class Unknown(str):
    """A value that only a deployment will know, and whatever is made of it."""


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation reads it: short forms of functions, and dates that stay text."""


def _short_form(loader: Any, tag: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_form)
_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Any:
    """A template's body, from JSON or YAML.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader of our own


def active(values: Values) -> dict[str, Mapping[str, Any]]:
    """The resources whose conditions hold, by logical id."""
    resources: Mapping[str, Mapping[str, Any]] = values.template.get("Resources", {})
    return {
        name: each
        for name, each in resources.items()
        if "Condition" not in each or values.condition(each["Condition"])
    }


def ordered(resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Logical ids, each after those that it needs.

    Raises:
        AwsError: they need each other in a circle.
    """
    order: list[str] = []
    open_: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in open_:
            circle = ", ".join(open_[open_.index(name) :])
            raise AwsError("ValidationError", f"Circular dependency between resources: [{circle}]")
        open_.append(name)
        for needed in sorted(needs(resources[name])):
            if needed in resources:
                visit(needed)
        open_.pop()
        order.append(name)

    for name in resources:
        visit(name)
    return order


def needs(resource: Any) -> set[str]:
    """The names that a resource refers to."""
    depends = resource.get("DependsOn", [])
    found = {depends} if isinstance(depends, str) else set(depends)
    return found | set(_references(resource.get("Properties", {})))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, given in value.items():
            if key == "Ref":
                yield given
            elif key == "Fn::GetAtt":
                yield given.split(".")[0] if isinstance(given, str) else given[0]
            else:
                if key == "Fn::Sub":
                    text = given if isinstance(given, str) else given[0]
                    yield from (match.split(".")[0].strip() for match in _SUB.findall(text))
                yield from _references(given)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
