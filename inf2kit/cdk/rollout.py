"""How an update reaches the callers: which traffic first, how long it is watched, what undoes it."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker

from inf2kit.cdk.props import EndpointProps

#: Seconds in which the new instances are watched: five minutes of an alarm, and its metrics' delay.
_WATCH_S = 480
#: SageMaker's own longest.
_LONGEST_S = 28_800

_Endpoint = sagemaker.CfnEndpoint


def deployment_config(
    props: EndpointProps, alarms: list[cloudwatch.CfnAlarm]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """The guardrails of an update.

    An update keeps the number of instances that run, which a template does not know. All at once is right for
    any number; a canary or a rolling update needs as many as the props have checked ``min_instances`` for.

    Args:
        props: What is deployed.
        alarms: Each of them undoes the update, unless ``props.rollback`` is false.
    """
    rollback = _Endpoint.AutoRollbackConfigProperty(
        alarms=[_Endpoint.AlarmProperty(alarm_name=str(alarm.alarm_name)) for alarm in alarms]
    )
    auto_rollback = rollback if props.rollback else None
    if props.rollout == "rolling":
        return _Endpoint.DeploymentConfigProperty(
            auto_rollback_configuration=auto_rollback,
            rolling_update_policy=_Endpoint.RollingUpdatePolicyProperty(
                maximum_batch_size=_percent(25),
                rollback_maximum_batch_size=_percent(100),
                wait_interval_in_seconds=_WATCH_S,
                maximum_execution_timeout_in_seconds=_longest(props, steps=4),
            ),
        )
    canary = props.rollout == "canary"
    return _Endpoint.DeploymentConfigProperty(
        auto_rollback_configuration=auto_rollback,
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


def _percent(value: int) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    return _Endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=value)


def _longest(props: EndpointProps, *, steps: int) -> int:
    """A start, the watching, and ten minutes of SageMaker's own, for each step."""
    step = props.download_timeout_s + props.startup_timeout_s + 2 * _WATCH_S + 600
    return min(_LONGEST_S, steps * step)
