"""What SageMaker refuses beyond its model of a request, and what this rehearsal does not make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError

#: All of a container's variables together.
_ENVIRONMENT_BYTES = 32 * 1024


def refuse_odd_model(request: Mapping[str, Any]) -> None:
    """A model must be one container that can run.

    Raises:
        AwsError: it is not.
    """
    containers = request.get("Containers") or [request.get("PrimaryContainer") or {}]
    if len(containers) != 1 or containers[0].get("Mode", "SingleModel") != "SingleModel":
        raise _not_made("a model of several containers or in MultiModel mode")
    if not request.get("ExecutionRoleArn"):
        raise _refused("ExecutionRoleArn is required.")
    if not containers[0].get("Image"):
        raise _refused("The container must have an Image.")
    environment = containers[0].get("Environment", {})
    size = sum(len(f"{name}{value}".encode()) for name, value in environment.items())
    if size > _ENVIRONMENT_BYTES:
        raise _refused(f"The environment has {size} bytes; at most {_ENVIRONMENT_BYTES} are allowed in all.")


def refuse_unmade(request: Mapping[str, Any]) -> None:
    """Variants must be instances of their own.

    Raises:
        AwsError: they are something else, or have one name.
    """
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) < len(names):
        raise _refused("ProductionVariants must have different names.")
    if request.get("ShadowProductionVariants"):
        raise _not_made("shadow variants")
    for variant in variants:
        if variant.get("ServerlessConfig"):
            raise _not_made("serverless variants")
        if not variant.get("ModelName"):
            raise _not_made("variants of inference components (without ModelName)")
        if not variant.get("InstanceType"):
            raise _refused(f"The variant {variant['VariantName']} needs an InstanceType.")


def check_update(endpoint: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """An endpoint stays asynchronous, or stays not.

    Args:
        endpoint: The EndpointName.
        old: The configuration that serves.
        new: The configuration that shall serve.

    Raises:
        AwsError: it would change.
    """
    name = "AsyncInferenceConfig"
    if (name in old) != (name in new):
        verb = "removed from" if name in old else "added to"
        raise _refused(
            f"The {name} parameter cannot be {verb} this endpoint {endpoint}. To change it, delete the "
            "endpoint and create it again."
        )


def check_rollout(deployment: Mapping[str, Any], instances: int) -> None:
    """A canary, a step or a batch must be a part of the fleet.

    Args:
        deployment: The DeploymentConfig.
        instances: Of the fleet that will serve; with retained properties that is the number which serves now.

    Raises:
        AwsError: it is not.
    """
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    rolling = deployment.get("RollingUpdatePolicy")
    if instances < 2 and (rolling or kind in ("CANARY", "LINEAR")):
        how = "batches" if rolling else f"{kind} traffic routing"
        raise _refused(f"A fleet of {instances} instance cannot be updated with {how}.")
    low, high = {"CANARY": (0.0, 50.0), "LINEAR": (10.0, 50.0)}.get(kind, (0.0, 100.0))
    sizes = {
        "CanarySize": (routing.get("CanarySize"), low, high),
        "LinearStepSize": (routing.get("LinearStepSize"), low, high),
        "MaximumBatchSize": ((rolling or {}).get("MaximumBatchSize"), 5.0, 50.0),
    }
    for name, (size, least, most) in sizes.items():
        if size is None:
            continue
        percent = float(size["Value"])
        if size["Type"] == "INSTANCE_COUNT":
            percent *= 100 / instances
        if not least <= percent <= most:
            raise _refused(f"{name} must be {least:g} to {most:g} percent of the fleet, not {percent:g}.")


def _refused(message: str) -> AwsError:
    return AwsError("ValidationException", message)


def _not_made(what: str) -> AwsError:
    return _refused(f"This rehearsal does not make {what}.")
