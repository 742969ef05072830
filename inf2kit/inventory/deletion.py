"""What of an inventory may be deleted, in which order, and its deletion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from inf2kit import aws
from inf2kit.errors import DeploymentError
from inf2kit.inventory.resources import Inventory, Resource

#: An endpoint goes first, as it bills. Its log group goes last: what an endpoint still writes would create
#: it anew.
_ORDER = (
    "endpoint",
    "compilation job",
    "endpoint configuration",
    "model",
    "parameter",
    "log group",
)
#: Seconds between two looks at an endpoint that is being deleted, and how many looks: 15 minutes in all.
_WAIT = {"Delay": 2, "MaxAttempts": 450}


#: Seconds that an endpoint has to settle; its creation may take an hour and more.
_SETTLE_S, _POLL_S = 5400.0, 2.0


@dataclass(frozen=True)
class Retained:
    """A resource that stays.

    Attributes:
        resource: The resource.
        reason: Why it stays.
        command: What deletes it; empty where nothing should.
    """

    resource: Resource
    reason: str
    command: str = ""


@dataclass(frozen=True)
class CleanupPlan:
    """What is to be deleted, in this order, and what stays."""

    deletions: tuple[Resource, ...]
    retained: tuple[Retained, ...]

    def restricted_to(self, earlier: CleanupPlan) -> CleanupPlan:
        """Return the plan with only those deletions that an earlier plan has too."""
        listed = {resource.identity for resource in earlier.deletions}
        deletions = tuple(resource for resource in self.deletions if resource.identity in listed)
        return CleanupPlan(deletions, self.retained)


@dataclass(frozen=True)
class Outcome:
    """The deletion of one resource.

    Attributes:
        resource: The resource.
        error: Why it is still there; empty if it is gone.
    """

    resource: Resource
    error: str = ""


def plan_cleanup(inventory: Inventory) -> CleanupPlan:
    """Decide what may be deleted: what no stack has created, and no endpoint that stays uses."""
    retained: list[Retained] = []
    deletions: list[Resource] = []
    for resource in sorted(inventory.resources, key=lambda resource: _ORDER.index(resource.kind)):
        reason = _reason_to_stay(resource, inventory, deletions)
        if reason:
            retained.append(reason)
        else:
            deletions.append(resource)
    return CleanupPlan(tuple(deletions), tuple(retained))


def delete(
    plan: CleanupPlan, client: Callable[[str], Any], progress: Callable[[str], None] = lambda _: None
) -> Iterator[Outcome]:
    """Delete what is planned. One refusal does not keep the others from being deleted.

    Args:
        plan: The plan.
        client: Makes a client of a service, in the inventory's region.
        progress: Called with what is waited for.

    Yields:
        The outcome of each deletion. An endpoint's comes when it is gone, and with it its bill.
    """
    failed = set()
    requested = []
    for resource in plan.deletions:
        if resource.kind == "endpoint":
            error = _try(resource, partial(_delete_endpoint, client("sagemaker"), resource, progress))
            if error:
                failed.add(resource.name)
                yield Outcome(resource, error)
            else:
                requested.append(resource)
    for resource in requested:
        progress(f"waiting until the endpoint {resource.name} is gone")
        error = _try(resource, partial(_wait_until_gone, client("sagemaker"), resource))
        if error:
            failed.add(resource.name)
        yield Outcome(resource, error)
    for resource in plan.deletions:
        if resource.kind == "endpoint":
            continue
        if left := failed.intersection(resource.used_by):
            yield Outcome(resource, f"{resource.label} stays, as the endpoint {min(left)} uses it")
            continue
        yield Outcome(resource, _try(resource, partial(_DELETIONS[resource.kind], client, resource)))


def _reason_to_stay(resource: Resource, inventory: Inventory, deletions: list[Resource]) -> Retained | None:
    if resource.stack:
        reason = f"belongs to the stack {resource.stack}"
        return Retained(resource, reason, f"cdk destroy {resource.stack}")
    if not resource.tagged:
        command = f"aws logs delete-log-group --region {inventory.region} --log-group-name {resource.name}"
        return Retained(resource, "has no tag of inf2kit: SageMaker made it", command)
    if "stacks" in inventory.unlisted:
        return Retained(resource, "may belong to a stack: the stacks could not be listed")
    if resource.kind in ("endpoint configuration", "model"):
        if "endpoints" in inventory.unlisted:
            return Retained(resource, "may be in use: the endpoints could not be listed")
        deleted = {other.name for other in deletions if other.kind == "endpoint"}
        if users := [name for name in resource.used_by if name not in deleted]:
            return Retained(resource, f"is used by the endpoint {', '.join(users)}")
    return None


def _try(resource: Resource, call: Callable[[], None]) -> str:
    """Call a function; return AWS's refusal as a sentence, or an empty one."""
    from botocore.exceptions import ClientError

    try:
        with aws.translate_errors(DeploymentError, f"deleting the {resource.label}"):
            try:
                call()
            except ClientError as error:
                if not _is_gone(error):
                    raise
    except DeploymentError as error:
        return str(error)
    return ""


def _is_gone(error: Any) -> bool:
    """Whether somebody else has deleted the resource meanwhile."""
    code, message = error.response["Error"].get("Code", ""), str(error)
    return code in ("ParameterNotFound", "ResourceNotFoundException") or "Could not find" in message


def _delete_endpoint(sagemaker: Any, endpoint: Resource, progress: Callable[[str], None]) -> None:
    """Delete an endpoint, once it has settled: SageMaker deletes none that it is creating or updating."""
    from botocore.exceptions import ClientError

    deadline = time.monotonic() + _SETTLE_S
    waits = False
    while True:
        try:
            sagemaker.delete_endpoint(EndpointName=endpoint.name)
        except ClientError as error:
            if "in-progress" not in str(error) or time.monotonic() > deadline:
                raise
        else:
            return
        if not waits:
            progress(f"waiting until {endpoint.name} has settled: SageMaker does not delete it before")
            waits = True
        time.sleep(_POLL_S)


def _wait_until_gone(sagemaker: Any, endpoint: Resource) -> None:
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=endpoint.name, WaiterConfig=_WAIT)


_Client = Callable[[str], Any]
_DELETIONS: dict[str, Callable[[_Client, Resource], None]] = {
    "compilation job": lambda client, job: client("sagemaker").stop_processing_job(
        ProcessingJobName=job.name
    ),
    "endpoint configuration": lambda client, config: client("sagemaker").delete_endpoint_config(
        EndpointConfigName=config.name
    ),
    "model": lambda client, model: client("sagemaker").delete_model(ModelName=model.name),
    "parameter": lambda client, parameter: client("ssm").delete_parameter(Name=parameter.name),
    "log group": lambda client, group: client("logs").delete_log_group(logGroupName=group.name),
}
