"""What the state of a stack allows, and the words in which CloudFormation refuses the rest."""

from __future__ import annotations

from collections.abc import Collection

from moto.cloudformation import exceptions

from inf2kit.rehearsal.cloud.cloudformation.desired import refused
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack

#: A deployment that failed and was left as it was, to be completed or rolled back.
PAUSED = ("CREATE_FAILED", "UPDATE_FAILED")
#: In these states a stack takes no update.
_NOT_UPDATABLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED")


def check_change_set(stack: LiveStack, kind: str, name: str) -> None:
    """Check that a change set can be created.

    Args:
        stack: The stack.
        kind: ``CREATE`` for a stack in review, otherwise ``UPDATE``.
        name: The change set's name, for the error.

    Raises:
        ValidationError: the stack is busy, takes no update, or is not of the kind.
    """
    is_reviewed = stack.status == "REVIEW_IN_PROGRESS"
    if kind == "UPDATE" and is_reviewed:
        raise refused(f"Stack [{stack.name}] does not exist")
    if kind == "CREATE" and not is_reviewed:
        raise refused(
            f"Stack [{stack.name}] already exists and cannot be created again with the changeSet [{name}]."
        )
    _check_updatable(stack)


def check_update(stack: LiveStack, *, rollback: bool) -> None:
    """Check that a deployment can begin.

    Args:
        stack: The stack.
        rollback: Whether a failure would be rolled back.

    Raises:
        ValidationError: the stack is busy, takes no update, or none that could be rolled back.
    """
    _check_updatable(stack)
    if rollback and stack.status in PAUSED:
        # A roll-back could not tell the failed deployment from this one.
        raise refused(
            f"This stack is currently in a non-terminal [{stack.status}] state. To update the stack from "
            "this state, please use the disable-rollback parameter with update-stack API. To rollback to "
            "the last known good state, use the rollback-stack API"
        )


def check_direct_update(stack: LiveStack, *, rollback: bool) -> None:
    """Check that a deployment without a change set can begin: a stack in review has only change sets.

    Raises:
        ValidationError: as for ``check_update``.
    """
    if stack.status == "REVIEW_IN_PROGRESS":
        raise _not_updatable(stack)
    check_update(stack, rollback=rollback)


def check_deletion(stack: LiveStack, *, retained: Collection[str], force: bool) -> None:
    """Check that a deletion can begin.

    Args:
        stack: The stack.
        retained: The logical ids of resources that the stack shall leave behind.
        force: Whether it shall leave behind what cannot be deleted.

    Raises:
        ValidationError: the stack is protected or busy, or nothing has failed that could be left behind.
    """
    if stack.enable_termination_protection:
        raise refused(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
    if stack.is_busy and stack.status != "CREATE_IN_PROGRESS":
        raise refused(f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
    if (retained or force) and stack.status != "DELETE_FAILED":
        raise refused(
            f"Stack [{stack.name}] is in {stack.status}; resources can be left behind only in DELETE_FAILED"
        )
    unknown = sorted(set(retained) - set(stack.deployed))
    if unknown:
        raise refused(f"The stack [{stack.name}] has no resources [{', '.join(unknown)}] to retain")


def check_rollback(stack: LiveStack) -> None:
    """Check that a paused deployment can be rolled back.

    Raises:
        ValidationError: no deployment of the stack is paused.
    """
    if stack.status not in PAUSED:
        raise refused(f"Stack:{stack.stack_id} is in {stack.status} state and can not be rolled back.")


def check_continued_rollback(stack: LiveStack, skipped: Collection[str]) -> None:
    """Check that a failed rollback of an update can be continued.

    Args:
        stack: The stack.
        skipped: The logical ids of resources that shall stay as they are.

    Raises:
        ValidationError: the stack has no such rollback, or a resource did not fail in it.
    """
    if stack.status != "UPDATE_ROLLBACK_FAILED":
        raise refused(
            f"Stack:{stack.stack_id} is in {stack.status} state and can not continue rollback; only a stack "
            "in UPDATE_ROLLBACK_FAILED can"
        )
    others = sorted(set(skipped) - stack.unrestored)
    if others:
        raise refused(
            f"The resources [{', '.join(others)}] cannot be skipped: the rollback did not leave them in "
            "UPDATE_FAILED"
        )


def _check_updatable(stack: LiveStack) -> None:
    if stack.is_busy or stack.status in _NOT_UPDATABLE:
        raise _not_updatable(stack)


def _not_updatable(stack: LiveStack) -> exceptions.ValidationError:
    return refused(f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
