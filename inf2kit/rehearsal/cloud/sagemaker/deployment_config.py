"""DeploymentConfig: the steps of a roll-out, the alarms that roll it back, and what SageMaker refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError


def alarm_names(deployment: Mapping[str, Any]) -> list[str]:
    """The alarms that roll an update back."""
    rollback = deployment.get("AutoRollbackConfiguration", {})
    return [str(alarm["AlarmName"]) for alarm in rollback.get("Alarms", [])]


def traffic_shares(routing: Mapping[str, Any], instances: int) -> list[float]:
    """The new fleet's share of the traffic in each step of a blue/green update.

    Args:
        routing: The TrafficRoutingConfiguration.
        instances: The size of the new fleet.
    """
    kind = routing.get("Type", "ALL_AT_ONCE")
    if kind == "CANARY":
        return [instance_count(routing["CanarySize"], instances) / instances, 1.0]
    if kind == "LINEAR":
        step = instance_count(routing["LinearStepSize"], instances)
        return [min(1.0, count / instances) for count in range(step, instances + step, step)]
    return [1.0]


def instance_count(size: Mapping[str, Any], instances: int) -> int:
    """Convert a CapacitySize to a number of instances, at least one."""
    value = float(size["Value"])
    return max(1, int(value if size["Type"] == "INSTANCE_COUNT" else instances * value / 100))


def instances_of(config: Mapping[str, Any], counts: Mapping[str, int]) -> Counter[str]:
    """The number of instances that an endpoint configuration asks for, by type.

    Args:
        config: The configuration.
        counts: The instance counts of variants that keep their number.
    """
    instances: Counter[str] = Counter()
    for variant in config["ProductionVariants"]:
        count = counts.get(variant["VariantName"], int(variant.get("InitialInstanceCount", 1)))
        instances[str(variant.get("InstanceType", ""))] += count
    return instances


def started_beside(deployment: Mapping[str, Any], instances: Mapping[str, int]) -> dict[str, int]:
    """The instances that an update starts beside the old ones: all of the new fleet, or a batch."""
    size = deployment.get("RollingUpdatePolicy", {}).get("MaximumBatchSize")
    if size is None:
        return dict(instances)
    return {kind: instance_count(size, count) for kind, count in instances.items()}


def check_policies(deployment: Mapping[str, Any]) -> None:
    """Check that a DeploymentConfig has one way to update.

    Raises:
        AwsError: it has two.
    """
    if "BlueGreenUpdatePolicy" in deployment and "RollingUpdatePolicy" in deployment:
        raise AwsError(
            "ValidationException", "Give either a BlueGreenUpdatePolicy or a RollingUpdatePolicy, not both."
        )


def check_sizes(deployment: Mapping[str, Any], instances: int) -> None:
    """Check that a canary, a step or a batch is an allowed part of the fleet.

    Args:
        deployment: The DeploymentConfig.
        instances: The size of the new fleet; with RetainAllVariantProperties the size of the present one.

    Raises:
        AwsError: SageMaker would refuse the size.
    """
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    rolling = deployment.get("RollingUpdatePolicy")
    if instances < 2 and (rolling or kind in ("CANARY", "LINEAR")):
        how = "batches" if rolling else f"{kind} traffic routing"
        raise AwsError(
            "ValidationException", f"A fleet of {instances} instance cannot be updated with {how}."
        )
    low, high = {"CANARY": (0.0, 50.0), "LINEAR": (10.0, 50.0)}.get(kind, (0.0, 100.0))
    limits = {
        "CanarySize": (routing.get("CanarySize"), low, high),
        "LinearStepSize": (routing.get("LinearStepSize"), low, high),
        "MaximumBatchSize": ((rolling or {}).get("MaximumBatchSize"), 5.0, 50.0),
    }
    for name, (size, minimum, maximum) in limits.items():
        if size is None:
            continue
        percent = float(size["Value"])
        if size["Type"] == "INSTANCE_COUNT":
            percent *= 100 / instances
        if not minimum <= percent <= maximum:
            raise AwsError(
                "ValidationException",
                f"{name} must be {minimum:g} to {maximum:g} percent of the fleet, not {percent:g}.",
            )
