"""Making a stack what its template says, and undoing it when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation import resources, template
from inf2kit.rehearsal.cloud.cloudformation.resources import CreatedButFailedError, Here
from inf2kit.rehearsal.cloud.cloudformation.stack import Deployed, LiveStack, Version
from inf2kit.rehearsal.cloud.errors import AwsError

#: How long a reason may be that DescribeStackEvents gives.
_REASON = 1024


class _FailedError(Exception):
    """A resource that could not be made; the message is the reason."""


@dataclass(frozen=True)
class Wish:
    """What a stack shall become.

    Attributes:
        text: The template, as given.
        body: The template, parsed.
        parameters: As given.
        names: Parameters, resolved, and pseudo parameters.
        exports: Of all other stacks.
        rollback: Whether a failure undoes what was done.
    """

    text: str
    body: Mapping[str, Any]
    parameters: Mapping[str, str]
    names: Mapping[str, Any]
    exports: Mapping[str, str]
    rollback: bool = True


class Deployment:
    """One change of one stack, on a thread of its own.

    Args:
        stack: What is changed.
        here: Where resources are made.
    """

    def __init__(self, stack: LiveStack, here: Here) -> None:
        self._stack, self._here = stack, here
        #: Kept with the stack: after a failure that was not undone, a later change goes on from there.
        self._journal, self._leftovers = stack.journal, stack.leftovers

    def run(self, wish: Wish, verb: str) -> None:
        """Create or update.

        Args:
            wish: What the stack shall become.
            verb: ``CREATE`` or ``UPDATE``.
        """
        stack = self._stack
        try:
            values = template.Values(wish.body, wish.names, self._lookup, wish.exports)
            active = template.active(values)
            for logical_id in template.ordered(active):
                self._make(logical_id, active[logical_id], values)
            outputs = _outputs(values)
        except (_FailedError, AwsError) as error:
            reason = str(error)[:_REASON]
            if not wish.rollback:
                stack.tell(f"{verb}_FAILED", reason)
                return
            self._roll_back(verb, reason)
            return
        gone = [each for name, each in stack.deployed.items() if name not in active]
        stack.template = wish.text
        stack.version = Version(
            wish.text, wish.parameters, {key: wish.names.get(key) for key in wish.parameters}, outputs
        )
        if verb == "UPDATE":
            stack.tell("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for each in gone:
            del stack.deployed[each.logical_id]
        leftovers = list(self._leftovers)
        self._leftovers.clear()
        self._journal.clear()
        self._clean_up(leftovers, gone)
        stack.tell(f"{verb}_COMPLETE")

    def delete(self) -> None:
        """Delete everything that is not retained."""
        stack = self._stack
        for each in _backwards(stack.deployed):
            if not self._delete(each, kept=each.retained):
                stack.tell(
                    "DELETE_FAILED", f"The following resource(s) failed to delete: [{each.logical_id}]."
                )
                return
            del stack.deployed[each.logical_id]
        stack.tell("DELETE_COMPLETE")

    def roll_back(self) -> None:
        """Undo what a failure without rollback has left."""
        verb = "UPDATE" if self._stack.version.template else "CREATE"
        self._roll_back(verb, "User Initiated")

    def _lookup(self, logical_id: str, attribute: str | None) -> Any:
        found = self._stack.deployed.get(logical_id)
        if found is None:
            raise AwsError("ValidationError", f"The resource {logical_id} is not there.")
        if attribute is None:
            return found.made.physical_id
        try:
            return found.made.attributes[attribute]
        except KeyError:
            raise AwsError(
                "ValidationError",
                f"Requested attribute {attribute} does not exist for resource {logical_id} "
                f"({found.kind}) in this rehearsal.",
            ) from None

    def _make(self, logical_id: str, wanted: Mapping[str, Any], values: template.Values) -> None:
        stack, kind = self._stack, str(wanted["Type"])
        if stack.cancelled.is_set():
            raise _FailedError("Resource creation cancelled")
        maker = resources.of(kind)
        if maker is None:
            raise _FailedError(unsupported({logical_id: wanted}))
        properties = values.of(wanted.get("Properties", {}))
        before = stack.deployed.get(logical_id)
        if before and before.failed:
            # It never worked: the new one may need its name.
            self._delete(before, kept=False)
            del stack.deployed[logical_id]
            before = None
        policy = str(wanted.get("DeletionPolicy", "Delete"))
        kept = {
            "retained": policy.startswith("Retain"),
            "retained_on_rollback": policy == "Retain",
            "replacement_retained": wanted.get("UpdateReplacePolicy", "Delete") == "Retain",
        }
        if before and before.kind == kind and before.properties == properties:
            vars(before).update(kept)
            return
        replaced = before is not None and (
            before.kind != kind or resources.replaces(kind, before.properties, properties)
        )
        verb = "UPDATE" if before else "CREATE"
        why = "Requested update requires the creation of a new physical resource" if replaced else ""
        stack.tell_of(logical_id, kind, f"{verb}_IN_PROGRESS", why, before.made.physical_id if before else "")
        needs = frozenset(template.needs(wanted))
        try:
            if before and not replaced:
                # Before it is tried: a change that failed half-way has to be undone as well.
                self._journal.append(lambda: self._undo_update(before, properties))
                made = maker.update(self._here, before.made, before.properties, properties)
            else:
                name = maker.name(stack.name, logical_id, properties)
                made = maker.create(self._here, name, properties)
        except CreatedButFailedError as error:
            stack.deployed[logical_id] = Deployed(
                logical_id, kind, error.made, properties, needs=needs, failed=True
            )
            self._journal.append(lambda: self._undo_create(logical_id, before))
            reason = f'Resource handler returned message: "{error}" (HandlerErrorCode: NotStabilized)'
            stack.tell_of(logical_id, kind, f"{verb}_FAILED", reason[:_REASON], error.made.physical_id)
            raise _FailedError(
                f"The following resource(s) failed to {verb.lower()}: [{logical_id}]. {error}"
            ) from None
        except Exception as error:
            reason = _reason(error)
            stack.tell_of(logical_id, kind, f"{verb}_FAILED", reason)
            raise _FailedError(
                f"The following resource(s) failed to {verb.lower()}: [{logical_id}]. {reason}"
            ) from None
        stack.deployed[logical_id] = Deployed(logical_id, kind, made, properties, needs=needs, **kept)
        if not before or replaced:
            self._journal.append(lambda: self._undo_create(logical_id, before))
        if before and replaced:
            self._leftovers.append(before)
        stack.tell_of(logical_id, kind, f"{verb}_COMPLETE", physical_id=made.physical_id)

    def _undo_create(self, logical_id: str, before: Deployed | None) -> None:
        made = self._stack.deployed.pop(logical_id, None)
        if before:
            self._stack.deployed[logical_id] = before
            self._leftovers[:] = [each for each in self._leftovers if each is not before]
        if made:
            self._delete(made, kept=made.retained_on_rollback and not before)

    def _undo_update(self, before: Deployed, properties: Mapping[str, Any]) -> None:
        maker = resources.of(before.kind)
        assert maker  # noqa: S101 - it was made
        stack, name = self._stack, before.logical_id
        stack.tell_of(name, before.kind, "UPDATE_IN_PROGRESS", physical_id=before.made.physical_id)
        before.made = maker.update(self._here, before.made, properties, before.properties)
        stack.deployed[name] = before
        stack.tell_of(name, before.kind, "UPDATE_COMPLETE", physical_id=before.made.physical_id)

    def _roll_back(self, verb: str, reason: str) -> None:
        stack = self._stack
        prefix = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        stack.tell(f"{prefix}_IN_PROGRESS", reason)
        while self._journal:
            try:
                self._journal.pop()()
            except Exception as error:
                stack.tell(f"{prefix}_FAILED", _reason(error))
                return
        if verb == "UPDATE":
            stack.tell("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        stack.tell(f"{prefix}_COMPLETE")

    def _clean_up(self, replaced: list[Deployed], gone: list[Deployed]) -> None:
        # A success stays one: what cannot be deleted is left, and the events say so.
        for each in _backwards({f"{index}": each for index, each in enumerate([*replaced, *gone])}):
            is_replaced = any(each is other for other in replaced)
            self._delete(each, kept=each.replacement_retained if is_replaced else each.retained)

    def _delete(self, each: Deployed, *, kept: bool) -> bool:
        stack, kind = self._stack, each.kind
        if kept:
            stack.tell_of(each.logical_id, kind, "DELETE_SKIPPED", physical_id=each.made.physical_id)
            return True
        maker = resources.of(kind)
        assert maker  # noqa: S101 - it was made
        stack.tell_of(each.logical_id, kind, "DELETE_IN_PROGRESS", physical_id=each.made.physical_id)
        try:
            maker.delete(self._here, each.made, each.properties)
        except Exception as error:
            if not _is_gone(error):
                stack.tell_of(each.logical_id, kind, "DELETE_FAILED", _reason(error), each.made.physical_id)
                return False
        stack.tell_of(each.logical_id, kind, "DELETE_COMPLETE", physical_id=each.made.physical_id)
        return True


def unsupported(wanted: Mapping[str, Mapping[str, Any]]) -> str:
    """The types that nobody here can make, or nothing."""
    unknown = sorted(
        {str(each["Type"]) for each in wanted.values() if resources.of(str(each["Type"])) is None}
    )
    if not unknown:
        return ""
    return (
        f"This rehearsal cannot make resources of the type {', '.join(unknown)}; deploy them to AWS, or "
        "leave them out of the rehearsed app."
    )


def _backwards(deployed: Mapping[str, Deployed]) -> list[Deployed]:
    """Each before those that it needs."""
    found = list(deployed.values())
    names = {each.logical_id for each in found}
    order: list[Deployed] = []

    def visit(each: Deployed) -> None:
        if any(each is known for known in order):
            return
        for other in found:
            if other.logical_id in each.needs & names and other is not each:
                visit(other)
        order.append(each)

    for each in found:
        visit(each)
    return order[::-1]


def _outputs(values: template.Values) -> list[dict[str, Any]]:
    outputs = []
    for key, output in values.template.get("Outputs", {}).items():
        if "Condition" in output and not values.condition(output["Condition"]):
            continue
        export = output.get("Export", {}).get("Name")
        outputs.append(
            {
                "OutputKey": key,
                "OutputValue": str(values.of(output["Value"])),
                "Description": output.get("Description"),
                "ExportName": values.of(export) if export else None,
            }
        )
    return outputs


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        said = error.response["Error"]
        return f'Resource handler returned message: "{said.get("Message")}" ({said.get("Code")})'[:_REASON]
    if isinstance(error, KeyError):
        return f"the property or attribute {error} is missing"
    return str(error)[:_REASON]


def _is_gone(error: Exception) -> bool:
    """Whether what was to be deleted was not there any more."""
    if not isinstance(error, ClientError):
        return False
    said = error.response["Error"]
    text = f"{said.get('Code')} {said.get('Message')}"
    return any(word in text for word in ("NotFound", "NoSuch", "Could not find", "ResourceNotFound"))
