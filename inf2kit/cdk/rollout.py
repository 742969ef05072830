"""How an update reaches the callers: how traffic moves, how long it is watched, and what rolls it back."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker

from inf2kit.deployment.props import EndpointProps

#: Seconds that new instances are watched: an alarm's five minutes, and the delay of its metrics.
_WATCH_S = 480
#: Seconds of the longest update that SageMaker allows.
_MAX_UPDATE_S = 28_800

_Endpoint = sagemaker.CfnEndpoint


def deployment_config(
    props: EndpointProps, alarms: list[cloudwatch.CfnAlarm]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """The deployment guardrails of an endpoint.

    An update keeps the running number of instances, which is not known at synth. All at once works with any
    number. A canary or a rolling update needs the ``min_instances`` that the checks of the props ask for.

    Args:
        props: The props of the endpoint.
        alarms: Alarms that roll the update back, unless ``props.rollback`` is false.
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
                maximum_execution_timeout_in_seconds=_timeout_s(props, steps=4),
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
            maximum_execution_timeout_in_seconds=_timeout_s(props, steps=1),
        ),
    )


def _percent(value: int) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    return _Endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=value)


def _timeout_s(props: EndpointProps, *, steps: int) -> int:
    """Seconds for each step: a start, two watches, and ten minutes for SageMaker."""
    step = props.download_timeout_s + props.startup_timeout_s + 2 * _WATCH_S + 600
    return min(_MAX_UPDATE_S, steps * step)
