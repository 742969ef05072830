"""The desired stack: a template and its parameters, checked and resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moto.cloudformation import exceptions
from moto.ssm.models import ssm_backends

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.intrinsics import Resolver

_SSM = "AWS::SSM::Parameter::Value<"


@dataclass(frozen=True)
class DesiredStack:
    """What a stack shall become.

    Attributes:
        text: The template's text.
        template: The parsed template.
        parameters: The parameters as text, defaults included.
        names: The values of parameters and pseudo parameters.
        exports: The exports of all stacks.
        rollback: Whether a failure is rolled back.
        delete_failed: Whether a stack is deleted whose creation was rolled back.
    """

    text: str
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    names: Mapping[str, Any]
    exports: Mapping[str, str]
    rollback: bool = True
    delete_failed: bool = False

    @classmethod
    def resolve(
        cls,
        text: str,
        arguments: Mapping[str, str],
        *,
        account: str,
        region: str,
        exports: Mapping[str, str],
        rollback: bool = True,
    ) -> DesiredStack:
        """Parse a template and resolve its parameters.

        Args:
            text: The template.
            arguments: The parameters of the request.
            account: The stack's account.
            region: The stack's region.
            exports: The exports of all stacks.
            rollback: Whether a failure is rolled back.

        Raises:
            ValidationError: the template or a parameter is refused.
        """
        body = _parse(text)
        slots = body.get("Parameters", {})
        unknown = sorted(set(arguments) - set(slots))
        if unknown:
            raise refused(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
        parameters = {name: _argument(name, slot, arguments) for name, slot in slots.items()}
        names = {
            name: _value(name, str(slots[name].get("Type", "String")), argument, account, region)
            for name, argument in parameters.items()
        }
        pseudo = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NotificationARNs": [],
        }
        return cls(text, body, parameters, {**names, **pseudo}, exports, rollback)

    def broken_rule(self) -> str:
        """The first assertion of the template's rules that does not hold; empty if all hold."""
        resolver = Resolver(self.template, self.names, lambda logical_id, _: logical_id, self.exports)
        for rule in self.template.get("Rules", {}).values():
            if "RuleCondition" in rule and not resolver.holds(rule["RuleCondition"]):
                continue
            for assertion in rule.get("Assertions", []):
                if not resolver.holds(assertion["Assert"]):
                    return str(assertion.get("AssertDescription", "a rule of the template does not hold"))
        return ""

    def unsupported_types(self) -> str:
        """A sentence that names the resource types that cannot be created; empty if there are none."""
        kinds = {str(resource["Type"]) for resource in self.template.get("Resources", {}).values()}
        return unsupported(*(kind for kind in kinds if resources.find_handler(kind) is None))


def unsupported(*kinds: str) -> str:
    """A sentence that refuses resource types; empty for none."""
    if not kinds:
        return ""
    return (
        f"This rehearsal cannot create resources of the type {', '.join(sorted(kinds))}; deploy them to AWS, "
        "or leave them out of the rehearsed app."
    )


def refused(message: str) -> exceptions.ValidationError:
    """CloudFormation's error for a request that it refuses."""
    return exceptions.ValidationError("", message)


def _parse(text: str) -> Mapping[str, Any]:
    try:
        body = template.parse(text)
    except (TypeError, ValueError) as error:
        raise refused(f"Template format error: {error}") from None
    if not isinstance(body, dict) or not body.get("Resources"):
        raise refused("Template format error: At least one Resources member must be defined.")
    for logical_id, resource in body["Resources"].items():
        if not resource.get("Type"):
            raise refused(f"Template format error: [/Resources/{logical_id}] has no Type")
    return body


def _argument(name: str, slot: Mapping[str, Any], arguments: Mapping[str, str]) -> str:
    """The text of a parameter: the request's, or the default."""
    value = arguments.get(name, slot.get("Default"))
    if value is None:
        raise refused(f"Parameters: [{name}] must have values")
    allowed = slot.get("AllowedValues")
    if allowed and str(value) not in map(str, allowed):
        raise refused(f"Parameter {name} must be one of AllowedValues")
    return str(value)


def _value(name: str, kind: str, argument: str, account: str, region: str) -> Any:
    """The value of a parameter: read from SSM or split, as its type says."""
    if kind.startswith(_SSM):
        parameter = ssm_backends[account][region].get_parameter(argument)
        if parameter is None:
            raise refused(
                f"Unable to fetch parameters [{argument}] from parameter store for this account. "
                f"(parameter {name})"
            )
        argument = str(parameter.value)
        kind = kind.removeprefix(_SSM)
    if kind.startswith(("List<", "CommaDelimitedList")):
        return [item.strip() for item in argument.split(",")] if argument else []
    return argument
