"""What SageMaker refuses beyond its model of a request, and what this rehearsal does not make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inf2kit.cloud.errors import AwsError

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


def check_rollout(deployment: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """A canary, a step or a batch must be a part of the fleet.

    Raises:
        AwsError: it is not.
    """
    instances = sum(int(variant.get("InitialInstanceCount", 1)) for variant in config["ProductionVariants"])
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    if kind in ("CANARY", "LINEAR") and instances < 2:
        raise _refused(f"A fleet of {instances} instance cannot be updated with {kind} traffic routing.")
    low, high = {"CANARY": (0.0, 50.0), "LINEAR": (10.0, 50.0)}.get(kind, (0.0, 100.0))
    sizes = {
        "CanarySize": (routing.get("CanarySize"), low, high),
        "LinearStepSize": (routing.get("LinearStepSize"), low, high),
        "MaximumBatchSize": (deployment.get("RollingUpdatePolicy", {}).get("MaximumBatchSize"), 5.0, 50.0),
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
