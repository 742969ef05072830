"""The operations of CloudFormation that moto answers differently, patched into moto's response class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlparse

from moto.cloudformation import exceptions, models, responses
from moto.core.responses import ActionResult, EmptyResult

from inf2kit.rehearsal.cloud import iam
from inf2kit.rehearsal.cloud.cloudformation import states
from inf2kit.rehearsal.cloud.cloudformation.backend import Backend
from inf2kit.rehearsal.cloud.cloudformation.change_sets import LiveChangeSet, is_unchanged
from inf2kit.rehearsal.cloud.cloudformation.desired import DesiredStack, refused
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack
from inf2kit.rehearsal.cloud.s3 import objects

_PATCHED = (
    *("create_change_set", "list_change_sets", "describe_change_set", "execute_change_set"),
    "delete_change_set",
    *("create_stack", "update_stack", "delete_stack", "rollback_stack", "continue_update_rollback"),
    *("describe_stack_resources", "update_termination_protection", "_get_stack_from_s3_url"),
)
#: The largest TemplateBody in bytes.
_MAX_BODY = 51_200


def install(client: Callable[[str, str], Any], undone: str) -> None:
    """Patch moto's CloudFormation to use this package's stacks.

    Args:
        client: Creates a boto3 client of a service and a region, which calls this cloud.
        undone: What a stack does when SageMaker has rolled an endpoint update back; see ``lifecycle.up``.
    """
    Backend.client, Backend.undone = staticmethod(client), undone
    models.cloudformation_backends.backend = Backend
    models.cloudformation_backends.clear()
    for name in _PATCHED:
        setattr(responses.CloudFormationResponse, name, getattr(_Responses, name))


class _Responses(responses.CloudFormationResponse):
    """The methods that are patched into moto's class; ``self`` is an instance of moto's class."""

    def create_change_set(self) -> ActionResult:
        backend, name = _backend(self), self._get_param("StackName")
        kind = self._get_param("ChangeSetType", "UPDATE")
        if kind not in ("CREATE", "UPDATE"):
            raise refused(f"This rehearsal cannot create change sets of the type {kind}; import on AWS.")
        stack = backend.find(name)
        if kind == "UPDATE" and self._get_param("OnStackFailure") == "DELETE":
            raise refused("OnStackFailure DELETE is only valid when ChangeSetType is CREATE.")
        change_set = backend.create_live_change_set(
            name,
            self._get_param("ChangeSetName"),
            self._get_param("Description"),
            kind,
            _desired(self, stack),
            _tags(self),
            _role(self, stack),
        )
        return ActionResult({"Id": change_set.change_set_id, "StackId": change_set.stack_id})

    def list_change_sets(self) -> ActionResult:
        backend = _backend(self)
        return ActionResult({"Summaries": backend.change_sets_of(backend.get(self._get_param("StackName")))})

    def describe_change_set(self) -> ActionResult:
        return ActionResult(_change_set(self))

    def delete_change_set(self) -> ActionResult:
        try:
            change_set = _change_set(self)
        except exceptions.CloudFormationError:
            return EmptyResult()
        change_set.check_deletable()
        _backend(self).change_sets.pop(change_set.change_set_id, None)
        return EmptyResult()

    def execute_change_set(self) -> ActionResult:
        change_set = _change_set(self)
        _role(self, change_set.stack)
        _backend(self).execute(change_set, rollback=not _is_rollback_disabled(self))
        return EmptyResult()

    def create_stack(self) -> ActionResult:
        protected = bool(self._get_bool_param("EnableTerminationProtection", False))
        stack = _backend(self).create_live_stack(
            self._get_param("StackName"),
            _desired(self, None),
            _tags(self),
            _role(self, None),
            protected=protected,
        )
        return ActionResult({"StackId": stack.stack_id})

    def update_stack(self) -> ActionResult:
        backend = _backend(self)
        stack = backend.get(self._get_param("StackName"))
        desired, tags, role = _desired(self, stack), _tags(self), _role(self, stack)
        states.check_direct_update(stack, rollback=desired.rollback)
        if is_unchanged(stack, desired, tags):
            raise refused("No updates are to be performed.")
        backend.deploy(stack, desired, "UPDATE", tags or None, role)
        return ActionResult({"StackId": stack.stack_id})

    def rollback_stack(self) -> ActionResult:
        backend = _backend(self)
        stack = backend.get(self._get_param("StackName"))
        _role(self, stack)
        backend.roll_back(stack)
        return ActionResult({"StackId": stack.stack_id})

    def continue_update_rollback(self) -> ActionResult:
        backend = _backend(self)
        stack = backend.get(self._get_param("StackName"))
        _role(self, stack)
        backend.continue_rollback(
            stack,
            frozenset(self._get_param("ResourcesToSkip", [])),
            force=bool(self._get_bool_param("ForceRollback", False)),
        )
        return EmptyResult()

    def delete_stack(self) -> ActionResult:
        backend, name = _backend(self), self._get_param("StackName")
        _role(self, backend.find(name))
        backend.delete_live_stack(
            name,
            retained=frozenset(self._get_param("RetainResources", [])),
            force=self._get_param("DeletionMode") == "FORCE_DELETE_STACK",
        )
        return EmptyResult()

    def describe_stack_resources(self) -> ActionResult:
        """List a stack's resources; moto finds no stack by the physical id of one of them."""
        backend, physical_id = _backend(self), self._get_param("PhysicalResourceId")
        name, logical_id = self._get_param("StackName"), self._get_param("LogicalResourceId")
        if bool(name) == bool(physical_id):
            raise refused("You must specify either StackName or PhysicalResourceId, and not both")
        stack = backend.get_stack(name) if name else backend.get_by_resource(physical_id)
        resources = [
            responses.StackResourceDTO(stack, resource)
            for resource in stack.stack_resources
            if logical_id in (None, resource.logical_resource_id)
        ]
        return ActionResult({"StackResources": resources})

    def update_termination_protection(self) -> ActionResult:
        stack = _backend(self).get(self._get_param("StackName"))
        stack.enable_termination_protection = bool(self._get_bool_param("EnableTerminationProtection", False))
        return ActionResult({"StackId": stack.stack_id})

    def _get_stack_from_s3_url(self, template_url: str) -> str:
        """Read a template by an S3 URL in path or host style; moto takes a path only of ``localhost``."""
        url = urlparse(template_url)
        path = unquote(url.path).lstrip("/")
        host = url.netloc.split(":")[0]
        is_host_style = ".s3." in host or ".s3-" in host
        content = objects.read(f"s3://{host.split('.s3')[0]}/{path}" if is_host_style else f"s3://{path}")
        if content is None:
            raise refused(f"S3 error: Access Denied: there is no template at {template_url}")
        return content.decode()


def _backend(response: Any) -> Backend:
    backend: Backend = response.cloudformation_backend
    return backend


def _change_set(response: Any) -> LiveChangeSet:
    name, stack_name = response._get_param("ChangeSetName"), response._get_param("StackName")
    return _backend(response).get_change_set(name, stack_name)


def _tags(response: Any) -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in response._get_param("Tags", [])}


def _role(response: Any, stack: LiveStack | None) -> str:
    """The role of a request, or that of the stack's last one; empty for the caller's own permissions.

    Raises:
        ValidationError: CloudFormation cannot assume it.
    """
    role_arn = str(response._get_param("RoleARN") or (stack.role_arn if stack else "") or "")
    if role_arn and not iam.trusts(role_arn, "cloudformation.amazonaws.com"):
        raise refused(f"Role {role_arn} is invalid or cannot be assumed")
    return role_arn


def _desired(response: Any, stack: LiveStack | None) -> DesiredStack:
    """Resolve the template and parameters of a request.

    Args:
        response: moto's response object, which holds the request.
        stack: The existing stack, whose template and parameters the request may reuse.
    """
    body = response._get_param("TemplateBody")
    if body and len(body.encode()) > _MAX_BODY:
        raise refused(
            f"TemplateBody has {len(body.encode())} bytes; more than {_MAX_BODY} need a TemplateURL"
        )
    text, arguments = _template_text(response, stack), _arguments(response, stack)
    desired = _backend(response).resolve(text, arguments, rollback=not _is_rollback_disabled(response))
    _check_capabilities(response, desired)
    return dataclasses.replace(desired, delete_failed=_on_failure(response) == "DELETE")


def _template_text(response: Any, stack: LiveStack | None) -> str:
    if response._get_bool_param("UsePreviousTemplate", False) and stack:
        return stack.version.template
    url = response._get_param("TemplateURL")
    return str(response._get_stack_from_s3_url(url) if url else response._get_param("TemplateBody"))


def _arguments(response: Any, stack: LiveStack | None) -> dict[str, str]:
    previous = stack.version.parameters if stack else {}
    arguments = {}
    for parameter in response._get_param("Parameters", []):
        name = parameter["ParameterKey"]
        if parameter.get("UsePreviousValue") and name in previous:
            arguments[name] = previous[name]
        elif "ParameterValue" in parameter:
            arguments[name] = parameter["ParameterValue"]
    return arguments


def _check_capabilities(response: Any, desired: DesiredStack) -> None:
    """Refuse to create permissions unless the request acknowledges them."""
    name_properties = {"AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName"}
    resources = desired.template["Resources"].values()
    iam = [resource for resource in resources if str(resource["Type"]).startswith("AWS::IAM::")]
    is_named = any(
        name_properties.get(resource["Type"]) in resource.get("Properties", {}) for resource in iam
    )
    needed = "CAPABILITY_NAMED_IAM" if is_named else "CAPABILITY_IAM"
    if iam and not {needed, "CAPABILITY_NAMED_IAM"} & set(response._get_param("Capabilities", [])):
        error = exceptions.CloudFormationError(f"Requires capabilities : [{needed}]")
        error.code = "InsufficientCapabilitiesException"
        raise error


def _is_rollback_disabled(response: Any) -> bool:
    return bool(response._get_bool_param("DisableRollback", False)) or _on_failure(response) == "DO_NOTHING"


def _on_failure(response: Any) -> str:
    """What a request wants after a failure: of a change set, or of a new stack."""
    return str(response._get_param("OnStackFailure") or response._get_param("OnFailure") or "ROLLBACK")
