"""Stacks and change sets of one account and region, behind moto's CloudFormation."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from moto.cloudformation import exceptions, models, urls, utils
from moto.cloudformation.models import ChangeSet, CloudFormationBackend
from moto.core.utils import utcnow
from moto.ssm.models import ssm_backends

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.deployment import Deployment, Wish, unsupported
from inf2kit.rehearsal.cloud.cloudformation.resources import Here
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack
from inf2kit.rehearsal.cloud.errors import AwsError

#: Nothing but a deletion ends these.
_DELETABLE = (
    *("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"),
    "CREATE_IN_PROGRESS",
)
_NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
_SSM = "AWS::SSM::Parameter::Value<"


class Plan(ChangeSet):
    """A change set: a wish, and what it would change."""

    def __init__(self, kind: str, stack: LiveStack, name: str, description: str, wish: Wish) -> None:
        # moto's own reads the template in its way.
        self.change_set_type, self.change_set_name, self.description = kind, name, description
        self.change_set_id = utils.generate_changeset_id(name, stack.region_name, stack.account_id)
        self.stack, self.stack_id, self.stack_name = stack, stack.stack_id, stack.name
        self.wish = wish
        self.template, self.parameters = wish.text, dict(wish.parameters)
        self.notification_arns, self.tags, self.role_arn = None, None, None
        self.creation_time = utcnow()
        self.changes = _changes(stack, wish)
        fault = unsupported(wish.body.get("Resources", {})) or _broken_rule(wish)
        if not fault and kind == "UPDATE" and not self.changes and same(stack, wish):
            fault = _NO_CHANGES
        self.status = "FAILED" if fault else "CREATE_COMPLETE"
        self.execution_status = "UNAVAILABLE" if fault else "AVAILABLE"
        self.status_reason = fault or None


class Backend(CloudFormationBackend):
    """Stacks of one account and region."""

    client: Callable[[str, str], Any]
    undone: str

    @property
    def _url_module(self) -> Any:
        """moto looks for it beside the class."""
        return urls

    def wish(self, text: str, given: Mapping[str, str], *, rollback: bool = True) -> Wish:
        """A template and its parameters, resolved.

        Raises:
            ValidationError: a parameter is missing.
        """
        try:
            body = template.parse(text)
        except (ValueError, yaml.YAMLError) as error:
            raise refused(f"Template format error: {error}") from None
        if not isinstance(body, dict) or not body.get("Resources"):
            raise refused("Template format error: At least one Resources member must be defined.")
        unknown = sorted(set(given) - set(body.get("Parameters", {})))
        if unknown:
            raise refused(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
        untyped = [name for name, each in body["Resources"].items() if not each.get("Type")]
        if untyped:
            raise refused(f"Template format error: [/Resources/{untyped[0]}] has no Type")
        parameters, names = {}, {}
        for name, slot in body.get("Parameters", {}).items():
            value = given.get(name, slot.get("Default"))
            if value is None:
                raise refused(f"Parameters: [{name}] must have values")
            allowed = slot.get("AllowedValues")
            if allowed and str(value) not in map(str, allowed):
                raise refused(f"Parameter {name} must be one of AllowedValues")
            parameters[name] = str(value)
            names[name] = self._resolved(name, str(slot.get("Type", "String")), str(value))
        pseudo = {
            "AWS::AccountId": self.account_id,
            "AWS::Region": self.region_name,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NotificationARNs": [],
        }
        exports = {name: export.value for name, export in self.exports.items()}
        return Wish(text, body, parameters, {**names, **pseudo}, exports, rollback)

    def find(self, name: str) -> LiveStack | None:
        """A stack by its name or id, also a deleted one by its id."""
        for stack in list(self.stacks.values()):
            if name in (stack.name, stack.stack_id):
                assert isinstance(stack, LiveStack)  # noqa: S101
                return stack
        found = self.deleted_stacks.get(name)
        return found if isinstance(found, LiveStack) else None

    def plan(self, stack_name: str, name: str, description: str, kind: str, wish: Wish, tags: Any) -> Plan:
        """Make a change set."""
        utils.validate_create_change_set(name)
        stack = self.find(stack_name)
        if kind == "CREATE" and stack is None:
            stack = self._made(stack_name)
            stack.tell("REVIEW_IN_PROGRESS", "User Initiated")
        elif stack is None or (kind == "UPDATE" and stack.status == "REVIEW_IN_PROGRESS"):
            raise refused(f"Stack [{stack_name}] does not exist")
        elif kind == "CREATE" and stack.status != "REVIEW_IN_PROGRESS":
            raise refused(
                f"Stack [{stack_name}] already exists and cannot be created again with the changeSet"
            )
        check_free(stack)
        plan = Plan(kind, stack, name, description, wish)
        plan.tags = tags or None
        # Only now: a template that cannot be read leaves no stack.
        self.stacks[stack.stack_id] = stack
        self.change_sets[plan.change_set_id] = plan
        return plan

    def planned(self, name: str, stack_name: str | None) -> Plan:
        """A change set by its id, or by its name and that of a stack which is still there.

        Raises:
            CloudFormationError: there is none.
        """
        for plan in list(self.change_sets.values()):
            of_stack = stack_name in (None, plan.stack_name, plan.stack_id)
            if name == plan.change_set_id or (
                name == plan.change_set_name and of_stack and plan.stack_id in self.stacks
            ):
                assert isinstance(plan, Plan)  # noqa: S101
                return plan
        error = exceptions.CloudFormationError(f"ChangeSet [{name}] does not exist")
        error.code = "ChangeSetNotFound"
        raise error

    def deploy(self, stack: LiveStack, wish: Wish, verb: str, tags: Mapping[str, str] | None) -> None:
        """Start a deployment."""
        with stack.lock:
            check_free(stack)
            stack.tell(f"{verb}_IN_PROGRESS", "User Initiated")
        if tags is not None:
            stack.tags = dict(tags)
        stack.description = wish.body.get("Description")
        names = {**wish.names, "AWS::StackName": stack.name, "AWS::StackId": stack.stack_id}
        named = dataclasses.replace(wish, names=names)
        self._start(stack, lambda: self._deploy(stack, named, verb))

    def delete_stack(self, name_or_stack_id: str) -> None:
        """Start deleting a stack; one that is not there is deleted already."""
        stack = self.find(name_or_stack_id)
        if stack is None or stack.status == "DELETE_COMPLETE":
            return
        if stack.enable_termination_protection:
            raise refused(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        with stack.lock:
            check_free(stack, *_DELETABLE)
            before = stack.worker
            stack.cancelled.set()
            stack.tell("DELETE_IN_PROGRESS", "User Initiated")
        self._start(stack, lambda: self._delete(stack, before))

    def roll_back(self, stack: LiveStack) -> None:
        """Start undoing a failed creation."""
        if stack.status not in ("CREATE_FAILED", "UPDATE_FAILED"):
            raise refused(f"Stack [{stack.name}] is in {stack.status} state and can not be rolled back.")
        prefix = "ROLLBACK" if not stack.version.template else "UPDATE_ROLLBACK"
        with stack.lock:
            check_free(stack)
            stack.tell(f"{prefix}_IN_PROGRESS", "User Initiated")
        self._start(stack, lambda: self._guarded(stack, prefix, lambda: self._deployment(stack).roll_back()))

    def create_named(self, name: str, wish: Wish, tags: Mapping[str, str]) -> LiveStack:
        """Make a stack without a change set."""
        if self.find(name):
            raise exceptions.AlreadyExistsException(f"Stack [{name}] already exists")
        fault = unsupported(wish.body.get("Resources", {}))
        if fault:
            raise refused(fault)
        stack = self._made(name)
        self.stacks[stack.stack_id] = stack
        self.deploy(stack, wish, "CREATE", tags)
        return stack

    def _made(self, name: str) -> LiveStack:
        stack_id = utils.generate_stack_id(name, self.region_name, self.account_id)
        return LiveStack(stack_id, name, self.account_id, self.region_name)

    def _deploy(self, stack: LiveStack, wish: Wish, verb: str) -> None:
        prefix = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        self._guarded(stack, prefix, lambda: self._deployment(stack).run(wish, verb))
        self._drop_exports(stack)
        for output in stack.version.outputs:
            if output["ExportName"]:
                name, value = output["ExportName"], output["OutputValue"]
                self.exports[name] = models.Export(stack.stack_id, name, value)

    def _drop_exports(self, stack: LiveStack) -> None:
        for name in [
            name for name, each in self.exports.items() if each.exporting_stack_id == stack.stack_id
        ]:
            del self.exports[name]

    @staticmethod
    def _guarded(stack: LiveStack, prefix: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # Whatever it is, nobody may wait for ever.
            stack.tell(f"{prefix}_FAILED", f"the rehearsal itself failed: {type(error).__name__}: {error}")

    def _delete(self, stack: LiveStack, before: threading.Thread | None) -> None:
        if before:
            before.join()
        self._guarded(stack, "DELETE", self._deployment(stack).delete)
        if stack.status == "DELETE_COMPLETE":
            self._drop_exports(stack)
            # The next stack of this name has change sets of its own, of the same names.
            for plan in [plan for plan in list(self.change_sets.values()) if plan.stack is stack]:
                del self.change_sets[plan.change_set_id]
            self.deleted_stacks[stack.stack_id] = stack
            self.stacks.pop(stack.stack_id, None)

    def _deployment(self, stack: LiveStack) -> Deployment:
        return Deployment(stack, self.here())

    def here(self) -> Here:
        """Where this backend's stacks make their resources."""
        made: dict[str, Any] = {}

        def client(service: str) -> Any:
            if service not in made:
                made[service] = Backend.client(service, self.region_name)
            return made[service]

        return Here(self.account_id, self.region_name, client, Backend.undone)

    @staticmethod
    def _start(stack: LiveStack, work: Callable[[], None]) -> None:
        stack.worker = threading.Thread(target=work, daemon=True, name=f"stack {stack.name}")
        stack.worker.start()

    def _resolved(self, name: str, kind: str, value: str) -> Any:
        if kind.startswith(_SSM):
            parameter = ssm_backends[self.account_id][self.region_name].get_parameter(value)
            if parameter is None:
                raise refused(
                    f"Unable to fetch parameters [{value}] from parameter store for this account. "
                    f"(parameter {name})"
                )
            value = str(parameter.value)
            kind = kind.removeprefix(_SSM)
        if kind.startswith(("List<", "CommaDelimitedList")):
            return [each.strip() for each in value.split(",")] if value else []
        return value


def _changes(stack: LiveStack, wish: Wish) -> list[Any]:
    """What a change set shows. What refers to a changed resource may change as well, and is shown too."""
    names = {**wish.names, "AWS::StackName": stack.name, "AWS::StackId": stack.stack_id}
    changed: set[str] = set()

    def lookup(logical_id: str, attribute: str | None) -> Any:
        if logical_id in changed or logical_id not in stack.deployed:
            return template.Unknown(f"known after {logical_id}")
        made = stack.deployed[logical_id].made
        return made.physical_id if attribute is None else made.attributes.get(attribute)

    values = template.Values(wish.body, names, lookup, wish.exports)
    changes = []
    try:
        active = template.active(values)
        for name in template.ordered(active):
            before, kind = stack.deployed.get(name), str(active[name]["Type"])
            properties = values.of(active[name].get("Properties", {}))
            if before is None:
                changes.append(_change("Add", name, kind))
            elif before.properties != properties or before.kind != kind:
                replaced = before.kind != kind or resources.replaces(kind, before.properties, properties)
                if replaced:
                    changed.add(name)
                change = _change("Modify", name, kind, before.made.physical_id)
                change.replacement = "True" if replaced else "False"
                changes.append(change)
    except AwsError as error:
        raise refused(error.message) from None
    for name, gone in stack.deployed.items():
        if name not in active:
            changes.append(_change("Remove", name, gone.kind, gone.made.physical_id))
    return changes


def _change(action: str, logical_id: str, kind: str, physical_id: str | None = None) -> Any:
    change: Any = models.Change(action, logical_id, kind)
    change.physical_resource_id = physical_id
    return change


def same(stack: LiveStack, wish: Wish) -> bool:
    """Whether a stack is what is wished already."""
    if not stack.version.template:
        return False
    return (
        template.parse(stack.version.template) == wish.body
        and dict(stack.version.parameters) == dict(wish.parameters)
        and stack.status.endswith("COMPLETE")
    )


def _broken_rule(wish: Wish) -> str:
    """The first assertion of the template's rules that does not hold."""
    values = template.Values(wish.body, wish.names, lambda name, _: name, wish.exports)
    for rule in wish.body.get("Rules", {}).values():
        if "RuleCondition" in rule and not values.holds(rule["RuleCondition"]):
            continue
        for assertion in rule.get("Assertions", []):
            if not values.holds(assertion["Assert"]):
                return str(assertion.get("AssertDescription", "a rule of the template does not hold"))
    return ""


def check_free(stack: LiveStack, *more: str) -> None:
    """Refuse where CloudFormation takes no change in this state."""
    if (stack.busy or stack.status in _DELETABLE) and stack.status not in more:
        advice = (
            "delete it" if stack.status in _DELETABLE and not stack.busy else "try again when it has settled"
        )
        raise refused(f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated; {advice}.")


def refused(message: str) -> exceptions.ValidationError:
    """CloudFormation's error for what it does not take."""
    return exceptions.ValidationError("", message)
