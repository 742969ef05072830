"""CloudFormation's operations that moto answers differently, put into moto's own answers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlparse

from moto.cloudformation import exceptions, models, responses
from moto.core.responses import ActionResult, EmptyResult

from inf2kit.rehearsal.cloud.cloudformation.backend import Backend, Plan, check_free, refused, same
from inf2kit.rehearsal.cloud.cloudformation.deployment import Wish
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack
from inf2kit.rehearsal.cloud.s3 import objects

#: The operations that moto answers differently.
_ANSWERED = (
    *("create_change_set", "describe_change_set", "execute_change_set", "delete_change_set"),
    *("create_stack", "update_stack", "rollback_stack"),
)
#: Of a template that is not in S3.
_MAX_BODY = 51_200


def install(client: Callable[[str, str], Any], undone: str) -> None:
    """Put our own stacks behind moto's CloudFormation.

    Args:
        client: A boto3 client of a service and a region, which talks to this cloud.
        undone: What a stack makes of an update that SageMaker has undone, as ``commands.up`` has it.
    """
    Backend.client, Backend.undone = staticmethod(client), undone
    models.cloudformation_backends.backend = Backend
    models.cloudformation_backends.clear()
    answers = responses.CloudFormationResponse
    for name in _ANSWERED:
        setattr(answers, name, getattr(_Answers, name))
    answers._get_stack_from_s3_url = _Answers._get_stack_from_s3_url


class _Answers(responses.CloudFormationResponse):
    """The answers that moto gives differently; they are put into moto's own class."""

    def create_change_set(self) -> ActionResult:
        backend, name = _backend(self), self._get_param("StackName")
        kind = self._get_param("ChangeSetType", "UPDATE")
        stack = backend.find(name)
        _check_request(self)
        wish = backend.wish(_text(self, stack), _parameters(self, stack), rollback=not _disabled(self))
        tags = _tags(self)
        _check_capabilities(self, wish)
        plan = backend.plan(
            name, self._get_param("ChangeSetName"), self._get_param("Description"), kind, wish, tags
        )
        return ActionResult({"Id": plan.change_set_id, "StackId": plan.stack_id})

    def describe_change_set(self) -> ActionResult:
        return ActionResult(_plan(self))

    def delete_change_set(self) -> ActionResult:
        backend = _backend(self)
        with contextlib.suppress(exceptions.CloudFormationError):  # gone already
            del backend.change_sets[_plan(self).change_set_id]
        return EmptyResult()

    def execute_change_set(self) -> ActionResult:
        backend, plan = _backend(self), _plan(self)
        if plan.execution_status != "AVAILABLE":
            raise refused(
                f"ChangeSet [{plan.change_set_id}] cannot be executed in its current "
                f"status of [{plan.status}]"
            )
        stack = plan.stack
        assert isinstance(stack, LiveStack)  # noqa: S101
        check_free(stack)
        plan.execution_status = "EXECUTE_COMPLETE"
        # The others were made for what the stack was.
        for other in [each for each in list(backend.change_sets.values()) if each.stack is stack]:
            if other is not plan:
                del backend.change_sets[other.change_set_id]
        wish = plan.wish
        if _disabled(self):
            wish = dataclasses.replace(wish, rollback=False)
        verb = "CREATE" if stack.status == "REVIEW_IN_PROGRESS" else "UPDATE"
        backend.deploy(stack, wish, verb, plan.tags or {})
        return EmptyResult()

    def create_stack(self) -> ActionResult:
        backend = _backend(self)
        rollback = not _disabled(self) and self._get_param("OnFailure") != "DO_NOTHING"
        _check_request(self)
        wish = backend.wish(_text(self, None), _parameters(self, None), rollback=rollback)
        _check_capabilities(self, wish)
        tags = _tags(self)
        stack = backend.create_named(self._get_param("StackName"), wish, tags)
        return ActionResult({"StackId": stack.stack_id})

    def update_stack(self) -> ActionResult:
        backend, name = _backend(self), self._get_param("StackName")
        stack = backend.find(name)
        if stack is None:
            raise refused(f"Stack [{name}] does not exist")
        _check_request(self)
        wish = backend.wish(_text(self, stack), _parameters(self, stack), rollback=not _disabled(self))
        _check_capabilities(self, wish)
        tags = _tags(self) or None
        if same(stack, wish) and tags in (None, stack.tags):
            raise refused("No updates are to be performed.")
        backend.deploy(stack, wish, "UPDATE", tags)
        return ActionResult({"StackId": stack.stack_id})

    def rollback_stack(self) -> ActionResult:
        backend, name = _backend(self), self._get_param("StackName")
        stack = backend.find(name)
        if stack is None:
            raise refused(f"Stack [{name}] does not exist")
        backend.roll_back(stack)
        return ActionResult({"StackId": stack.stack_id})

    def _get_stack_from_s3_url(self, template_url: str) -> str:
        """By path or by host; moto takes a path only of ``localhost``."""
        url = urlparse(template_url)
        path = unquote(url.path).lstrip("/")
        host = url.netloc.split(":")[0]
        by_host = ".s3." in host or ".s3-" in host
        content = objects.read(f"s3://{host.split('.s3')[0]}/{path}" if by_host else f"s3://{path}")
        if content is None:
            raise refused(f"S3 error: Access Denied: there is no template at {template_url}")
        return content.decode()


def _backend(answers: Any) -> Backend:
    backend = answers.cloudformation_backend
    assert isinstance(backend, Backend)  # noqa: S101
    return backend


def _tags(answers: Any) -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in answers._get_param("Tags", [])}


def _check_request(answers: Any) -> None:
    body = answers._get_param("TemplateBody")
    if body and len(body.encode()) > _MAX_BODY:
        raise refused(
            f"TemplateBody has {len(body.encode())} bytes; more than {_MAX_BODY} need a TemplateURL"
        )


def _check_capabilities(answers: Any, wish: Wish) -> None:
    """Permissions are made only by who says that he knows it."""
    kinds = {"AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName"}
    given = set(answers._get_param("Capabilities", []))
    resources = wish.body["Resources"].values()
    iam = [each for each in resources if str(each.get("Type", "")).startswith("AWS::IAM::")]
    named = any(kinds.get(each["Type"]) in each.get("Properties", {}) for each in iam)
    enough = {"CAPABILITY_NAMED_IAM"} if named else {"CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"}
    if iam and not given & enough:
        wanted = "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"
        error = exceptions.CloudFormationError(f"Requires capabilities : [{wanted}]")
        error.code = "InsufficientCapabilitiesException"
        raise error


def _plan(answers: Any) -> Plan:
    return _backend(answers).planned(answers._get_param("ChangeSetName"), answers._get_param("StackName"))


def _text(answers: Any, stack: LiveStack | None) -> str:
    if answers._get_bool_param("UsePreviousTemplate", False) and stack:
        return stack.version.template
    url = answers._get_param("TemplateURL")
    return str(answers._get_stack_from_s3_url(url) if url else answers._get_param("TemplateBody"))


def _parameters(answers: Any, stack: LiveStack | None) -> dict[str, str]:
    before = stack.version.parameters if stack else {}
    found = {}
    for each in answers._get_param("Parameters", []):
        name = each["ParameterKey"]
        if each.get("UsePreviousValue") and name in before:
            found[name] = before[name]
        elif "ParameterValue" in each:
            found[name] = each["ParameterValue"]
    return found


def _disabled(answers: Any) -> bool:
    return bool(answers._get_bool_param("DisableRollback", False)) or (
        answers._get_param("OnStackFailure") == "DO_NOTHING"
    )
