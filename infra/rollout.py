"""How an update reaches the callers: which traffic first, how long it is watched, what undoes it."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker

from infra.props import EndpointProps

#: Seconds in which the new instances are watched; the alarms need three minutes.
_WATCH_S = 300
#: From this many instances on a second fleet beside the first is hard to come by.
_LARGE_FLEET = 4
#: SageMaker's own longest.
_LONGEST_S = 28_800

_Endpoint = sagemaker.CfnEndpoint


def deployment_config(
    props: EndpointProps, alarms: list[cloudwatch.CfnAlarm]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """The guardrails for a fleet of the size that always runs.

    One instance cannot be split, so a second one takes over all at once and the first one stays while it is
    watched. Two or three send a canary first. Four and more are exchanged a quarter at a time, since twice as
    many instances are hardly to be had.

    Args:
        props: Of the endpoint.
        alarms: Each of them undoes the update.
    """
    fleet = props.min_instances
    rollback = _Endpoint.AutoRollbackConfigProperty(
        alarms=[_Endpoint.AlarmProperty(alarm_name=str(alarm.alarm_name)) for alarm in alarms]
    )
    if fleet >= _LARGE_FLEET:
        quarter = _Endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=25)
        return _Endpoint.DeploymentConfigProperty(
            auto_rollback_configuration=rollback,
            rolling_update_policy=_Endpoint.RollingUpdatePolicyProperty(
                maximum_batch_size=quarter,
                rollback_maximum_batch_size=_Endpoint.CapacitySizeProperty(
                    type="CAPACITY_PERCENT", value=100
                ),
                wait_interval_in_seconds=_WATCH_S,
                maximum_execution_timeout_in_seconds=_longest(props, steps=4),
            ),
        )
    canary = fleet > 1
    return _Endpoint.DeploymentConfigProperty(
        auto_rollback_configuration=rollback,
        blue_green_update_policy=_Endpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=_Endpoint.TrafficRoutingConfigProperty(
                type="CANARY" if canary else "ALL_AT_ONCE",
                wait_interval_in_seconds=_WATCH_S,
                canary_size=_Endpoint.CapacitySizeProperty(type="INSTANCE_COUNT", value=1)
                if canary
                else None,
            ),
            termination_wait_in_seconds=_WATCH_S,
            maximum_execution_timeout_in_seconds=_longest(props, steps=1),
        ),
    )


def _longest(props: EndpointProps, *, steps: int) -> int:
    """A start, the watching, and ten minutes of SageMaker's own, for each step."""
    step = props.download_timeout_s + props.startup_timeout_s + 2 * _WATCH_S + 600
    return min(_LONGEST_S, steps * step)
